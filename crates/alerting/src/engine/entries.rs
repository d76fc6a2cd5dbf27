//! The rules by number, and the order in which they are due. A rule keeps its number for as long as it is there; a number is used again.
//!
//! What is due is found without a look at what is not, since there may be ten thousand rules and a sample that concerns one.

use std::collections::{BTreeSet, HashMap};

use super::Entry;

/// The rules.
#[derive(Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    /// When each is due; `i64::MAX` is never.
    dues: Vec<i64>,
    by_uid: HashMap<String, usize>,
    free: Vec<usize>,
    /// Those that are ever due, the next one first.
    queue: BTreeSet<(i64, usize)>,
}

impl Entries {
    pub(super) fn number(&self, uid: &str) -> Option<usize> {
        self.by_uid.get(uid).copied()
    }

    pub(super) fn get(&self, number: usize) -> Option<&Entry> {
        self.slots.get(number)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Entry> {
        self.slots.get_mut(number)?.as_mut()
    }

    /// All, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.slots.iter().enumerate().filter_map(|(number, slot)| Some((number, slot.as_ref()?)))
    }

    /// Adds a rule that is not there, or exchanges the one with its identity, whose number it gets.
    pub(super) fn put(&mut self, entry: Entry) -> usize {
        let uid = entry.rule.uid.clone();
        let number = self.number(&uid).or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.slots.push(None);
            self.dues.push(i64::MAX);
            self.slots.len() - 1
        });
        self.slots[number] = Some(entry);
        self.by_uid.insert(uid, number);
        number
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<Entry> {
        let entry = self.slots.get_mut(number)?.take()?;
        self.set_due(number, i64::MAX);
        self.by_uid.remove(&entry.rule.uid);
        self.free.push(number);
        Some(entry)
    }

    pub(super) fn due_of(&self, number: usize) -> i64 {
        self.dues[number]
    }

    /// `i64::MAX` is never.
    pub(super) fn set_due(&mut self, number: usize, due_ms: i64) {
        let before = std::mem::replace(&mut self.dues[number], due_ms);
        if before != due_ms {
            self.queue.remove(&(before, number));
            if due_ms < i64::MAX {
                self.queue.insert((due_ms, number));
            }
        }
    }

    /// When the next rule is due.
    pub(super) fn due_ms(&self) -> Option<i64> {
        self.queue.first().map(|(due_ms, _)| *due_ms)
    }

    /// The rules that are due, in the order of their numbers.
    pub(super) fn due(&self, now_ms: i64) -> Vec<usize> {
        let mut due: Vec<usize> = self.queue.range(..=(now_ms, usize::MAX)).map(|(_, number)| *number).collect();
        due.sort_unstable();
        due
    }
}
