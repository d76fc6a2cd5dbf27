//! The queries that are there: what each asks, how far it is, and how it is stopped.
//!
//! A query is in the list from its admission until nothing works for it any more, also where nobody waits for its answer; so there are never more than are
//! admitted. An id is a number that a key of this process makes of a counter: no one follows from another, and none is that of a query before a restart.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use model::Cancel;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use crate::asked::Subject;

/// How far a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Progress {
    /// It waits until storage has read everything that was acknowledged before.
    CatchUp,
    /// It waits for others.
    Queue,
    /// It is evaluated.
    Evaluation,
    /// Its answer, or a part of it, is on the way.
    Answer,
}

/// What people are told of a query that is there.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) id: String,
    pub(crate) subject: Subject,
    pub(crate) stage: &'static str,
    /// Since it was admitted.
    pub(crate) age: Duration,
    pub(crate) samples_read: u64,
    pub(crate) memory_bytes: usize,
}

/// A query that is there.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    /// How many came before, and some numbers that were left out.
    place: u64,
    pub(crate) subject: Subject,
    admitted: tokio::time::Instant,
    progress: AtomicU8,
    pub(crate) cancel: Cancel,
    asked_to_stop: Notify,
}

impl Entry {
    pub(crate) fn progress(&self) -> Progress {
        match self.progress.load(Ordering::Relaxed) {
            0 => Progress::CatchUp,
            1 => Progress::Queue,
            2 => Progress::Evaluation,
            _ => Progress::Answer,
        }
    }

    pub(crate) fn reach(&self, progress: Progress) {
        self.progress.store(progress as u8, Ordering::Relaxed);
    }

    /// Resolves once somebody asks to stop it.
    pub(crate) async fn asked_to_stop(&self) {
        self.asked_to_stop.notified().await;
    }

    fn show(&self) -> Shown {
        let stage = match self.progress() {
            Progress::Answer => "answering",
            _ if self.cancel.is_cancelled() => "stopping",
            Progress::CatchUp => "waiting for storage",
            Progress::Queue => "waiting for a place",
            Progress::Evaluation => "evaluating",
        };
        Shown {
            id: format!("{:016x}", self.id),
            subject: self.subject.clone(),
            stage,
            age: self.admitted.elapsed(),
            samples_read: self.cancel.samples_read(),
            memory_bytes: self.cancel.claim().held(),
        }
    }
}

/// All that are there.
#[derive(Debug, Default)]
pub(crate) struct Active {
    key: RandomState,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    /// How many there were.
    count: u64,
    by_id: HashMap<u64, Arc<Entry>>,
}

impl Active {
    /// Adds one, for as long as what is returned lives.
    #[expect(clippy::disallowed_methods, reason = "begins to measure for how long a query is there")]
    pub(crate) fn enter(self: &Arc<Self>, subject: Subject, cancel: Cancel) -> Listed {
        let mut entries = self.entries();
        let mut id = entries.count;
        // As good as never has one that is there the same.
        while id == entries.count || entries.by_id.contains_key(&id) {
            entries.count += 1;
            id = self.key.hash_one(entries.count);
        }
        let entry = Arc::new(Entry {
            id,
            place: entries.count,
            subject,
            admitted: tokio::time::Instant::now(),
            progress: AtomicU8::new(Progress::CatchUp as u8),
            cancel,
            asked_to_stop: Notify::new(),
        });
        entries.by_id.insert(id, entry.clone());
        Listed { active: self.clone(), entry, admitted: OnceLock::new() }
    }

    /// The first `max` that came, in that order; and how many there are.
    pub(crate) fn shown(&self, max: usize) -> (Vec<Shown>, usize) {
        let mut entries: Vec<Arc<Entry>> = self.entries().by_id.values().cloned().collect();
        entries.sort_unstable_by_key(|entry| entry.place);
        (entries.iter().take(max).map(|entry| entry.show()).collect(), entries.len())
    }

    /// Asks to stop one, which it says; `None` where there is none of this id.
    pub(crate) fn stop(&self, id: &str) -> Option<Shown> {
        // Only as it is shown: `+1` or capitals are another.
        let id = u64::from_str_radix(id, 16).ok().filter(|n| format!("{n:016x}") == id)?;
        let entry = self.entries().by_id.get(&id)?.clone();
        entry.asked_to_stop.notify_one();
        Some(entry.show())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a query in the list.
#[derive(Debug)]
pub(crate) struct Listed {
    active: Arc<Active>,
    pub(crate) entry: Arc<Entry>,
    /// Its place among those that are admitted.
    pub(crate) admitted: OnceLock<OwnedSemaphorePermit>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut entries = self.active.entries();
        entries.by_id.remove(&self.entry.id);
        // Who sees that it has left sees that its place is free.
        drop(self.admitted.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(active: &Arc<Active>, text: &str) -> Listed {
        active.enter(Subject::new("query", text, None), Cancel::default())
    }

    #[tokio::test]
    async fn what_is_there_is_listed_in_its_order_until_it_ends() {
        let active = Arc::new(Active::default());
        let (a, b) = (entered(&active, "a"), entered(&active, "b"));
        a.entry.reach(Progress::Evaluation);
        a.entry.cancel.count_read(7);
        a.entry.cancel.claim().take(100).expect("no bound");
        let shown = active.shown(9).0;
        let texts: Vec<&str> = shown.iter().map(|one| &*one.subject.text).collect();
        assert_eq!(texts, ["a", "b"]);
        assert_eq!((shown[0].stage, shown[0].samples_read, shown[0].memory_bytes), ("evaluating", 7, 100));
        assert_eq!(shown[1].stage, "waiting for storage");
        a.entry.cancel.cancel();
        assert_eq!(active.shown(9).0[0].stage, "stopping");
        drop(a);
        assert_eq!(active.shown(9).0.len(), 1);
        drop(b);
        assert!(active.shown(9).0.is_empty());
    }

    #[tokio::test]
    async fn only_the_one_that_is_named_is_asked_to_stop() {
        let active = Arc::new(Active::default());
        let (a, b) = (entered(&active, "a"), entered(&active, "b"));
        let id = active.shown(9).0[1].id.clone();
        assert_eq!(active.stop(&id).map(|shown| shown.subject.text), Some("b".into()));
        b.entry.asked_to_stop().await;
        let other = tokio::select! {
            biased;
            () = a.entry.asked_to_stop() => true,
            () = std::future::ready(()) => false,
        };
        assert!(!other);
        for wrong in ["", "x", &id[1..], &format!("+{id}"), &format!("0{id}"), &id.replace(char::is_alphanumeric, "F")]
        {
            assert!(active.stop(wrong).is_none(), "{wrong}");
        }
        drop(b);
        assert!(active.stop(&id).is_none());
    }

    #[test]
    fn ids_are_those_of_no_other_process_and_do_not_count_up() {
        let ids = || {
            let active = Arc::new(Active::default());
            let listed: Vec<Listed> = (0..100).map(|_| entered(&active, "a")).collect();
            listed.iter().map(|one| one.entry.id).collect::<Vec<u64>>()
        };
        let all: std::collections::HashSet<u64> = ids().into_iter().chain(ids()).collect();
        assert_eq!(all.len(), 200);
        assert!(!ids().windows(2).any(|pair| pair[0].abs_diff(pair[1]) < 1000));
    }
}
