//! When the counting of samples began, as chunks of the later encodings have it: behind each sample, where it is known and not as before.

use super::Reason;
use super::bits::BitReader;
use super::varbit::take_int;
use crate::chunk::bits::unzigzag;

/// Reads the starts of a chunk's samples, one after the other.
#[derive(Debug)]
pub(super) struct Starts {
    /// Whether the first sample has one.
    first: bool,
    /// From which sample on each has one; never where that is 0.
    from: u16,
    /// How long before the sample before the last one began, or before itself in the case of the first.
    before: i64,
    start: i64,
}

impl Starts {
    /// Of a chunk whose header has this byte.
    pub(super) fn new(header: u8) -> Self {
        Starts { first: header & 0x80 != 0, from: u16::from(header & 0x7f), before: 0, start: 0 }
    }

    /// Of a chunk that has none.
    pub(super) fn none() -> Self {
        Starts::new(0)
    }

    /// The start of the sample of this number, which follows; 0 where it is not known. `t` is its time, `t_before` that of the one before it.
    pub(super) fn next(&mut self, reader: &mut BitReader<'_>, at: u16, t: i64, t_before: i64) -> Result<i64, Reason> {
        if at == 0 {
            if self.first {
                self.start = t.wrapping_sub(unzigzag(reader.uvarint()?));
            }
        } else if self.from > 0 && at >= self.from {
            let n = take_int(reader)?;
            // The first that is told after the chunk's first is told whole.
            self.before = if at == self.from { n } else { self.before.wrapping_add(n) };
            self.start = t_before.wrapping_sub(self.before);
        }
        Ok(self.start)
    }
}
