//! What few series of a payload have: groups, each of one series, in the order of the series.

use super::cursor::Cursor;
use super::put_varint;
use crate::Error;

/// Writes the heads of groups.
#[derive(Default)]
pub(super) struct Heads {
    groups: u64,
    /// Number of the series after that of the last group.
    next_series: u64,
}

impl Heads {
    /// Begins the group of series number `series`, later than all before, with so many items.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, series: u64, items: usize) {
        put_varint(out, series - self.next_series);
        put_varint(out, items as u64);
        self.next_series = series + 1;
        self.groups += 1;
    }

    /// Whether this series, or one after it, has a group.
    pub(super) fn has(&self, series: u64) -> bool {
        self.next_series > series
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.groups
    }
}

/// How to say what is wrong with groups.
pub(super) struct Faults {
    pub(super) no_series: &'static str,
    pub(super) empty: &'static str,
    pub(super) too_many: &'static str,
}

/// The groups of a payload.
#[derive(Debug)]
pub(super) struct Groups<T> {
    /// Number of the series of each group, and where its items end.
    ends: Vec<(usize, usize)>,
    items: Vec<T>,
}

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Groups { ends: Vec::new(), items: Vec::new() }
    }
}

impl<T> Groups<T> {
    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.items.clear();
    }

    /// Reads the groups of a payload with so many series; they have at most `max` items together, each of which `one` reads.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        series: usize,
        max: usize,
        faults: &Faults,
        mut one: impl FnMut(&mut Cursor<'_>) -> Result<T, Error>,
    ) -> Result<(), Error> {
        let mut next = 0usize;
        for _ in 0..cursor.length()? {
            let skipped = cursor.varint()?;
            let number = usize::try_from(skipped).ok().and_then(|skipped| next.checked_add(skipped));
            let number = number.filter(|number| *number < series);
            let number = number.ok_or_else(|| cursor.error(faults.no_series))?;
            let count = cursor.length()?;
            if count == 0 {
                return Err(cursor.error(faults.empty));
            }
            if count > max - self.items.len() {
                return Err(cursor.error(faults.too_many));
            }
            for _ in 0..count {
                self.items.push(one(cursor)?);
            }
            next = number + 1;
            self.ends.push((number, self.items.len()));
        }
        Ok(())
    }

    /// For going through the series in their order.
    pub(super) fn in_order(&self) -> InOrder<'_, T> {
        InOrder { groups: self, group: 0, from: 0 }
    }
}

/// Hands out the items of the series one after the other.
pub(super) struct InOrder<'a, T> {
    groups: &'a Groups<T>,
    group: usize,
    from: usize,
}

impl<'a, T> InOrder<'a, T> {
    /// Those of this series, which comes after all that were asked for before.
    pub(super) fn next(&mut self, series: usize) -> &'a [T] {
        let Some((_, end)) = self.groups.ends.get(self.group).filter(|(number, _)| *number == series) else {
            return &[];
        };
        let own = &self.groups.items[self.from..*end];
        (self.group, self.from) = (self.group + 1, *end);
        own
    }
}
