//! When the counting of floats began: what few samples have, and those mostly the same for a whole target.
//!
//! A list of those that are known. Each tells how many floats before it have none, and whether it is the same as the one before; otherwise its
//! distance from the float's time follows.

use model::Sample;

use super::cursor::Cursor;
use super::{put_varint, unzigzag, zigzag};
use crate::Error;

/// Gathers starts.
#[derive(Default)]
pub(super) struct Starts {
    bytes: Vec<u8>,
    count: u64,
    /// Floats up to and with the last one whose start is known.
    reached: usize,
    last: i64,
}

impl Starts {
    /// Adds the start of float number `at`, later than all before.
    pub(super) fn push(&mut self, at: usize, t: i64, start: i64) {
        if start == 0 {
            return;
        }
        let same = start == self.last;
        put_varint(&mut self.bytes, ((at - self.reached) as u64) << 1 | u64::from(same));
        if !same {
            put_varint(&mut self.bytes, zigzag(start.wrapping_sub(t)));
        }
        (self.reached, self.last) = (at + 1, start);
        self.count += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Size of the list, without its length.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.count);
        out.extend_from_slice(&self.bytes);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.reached, self.last) = (0, 0, 0);
    }
}

/// Reads the list: a start for each float, or none at all.
pub(super) fn read(cursor: &mut Cursor<'_>, floats: &[Sample], out: &mut Vec<i64>) -> Result<(), Error> {
    out.clear();
    let count = cursor.length()?;
    if count == 0 {
        return Ok(());
    }
    out.resize(floats.len(), 0);
    let (mut next, mut last) = (0usize, 0i64);
    for _ in 0..count {
        let head = cursor.varint()?;
        let at = usize::try_from(head >> 1).ok().and_then(|gap| next.checked_add(gap)).filter(|at| *at < floats.len());
        let at = at.ok_or_else(|| cursor.error("start of a sample that is not there"))?;
        if head & 1 == 0 {
            last = floats[at].t.wrapping_add(unzigzag(cursor.varint()?));
        }
        if last == 0 {
            return Err(cursor.error("start that is none"));
        }
        out[at] = last;
        next = at + 1;
    }
    Ok(())
}
