//! Exemplars: groups, each of one series, in the order of the series.
//!
//! Their labels stand as they are and not in the table of symbols: names repeat, which the compression of the body sees, and values are
//! ids that occur once.

use model::Exemplar;

use super::cursor::Cursor;
use super::groups::{Faults, Groups, Heads};
use super::{put_varint, unzigzag, value, zigzag};
use crate::Error;

/// Exemplars of a payload. Writers keep to a megabyte or two of them, and each takes three bytes or more.
const EXEMPLARS_MAX: usize = 1 << 20;

const FAULTS: Faults = Faults {
    no_series: "exemplars of a series that is not there",
    empty: "group without exemplars",
    too_many: "more exemplars than a record has",
};

/// Gathers exemplars.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    heads: Heads,
    last_t: i64,
}

impl Writer {
    /// Adds the exemplars of series number `series`, later than all before. None add nothing.
    pub(super) fn push(&mut self, series: u64, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        let out = &mut self.bytes;
        self.heads.push(out, series, exemplars.len());
        for exemplar in exemplars {
            put_varint(out, zigzag(exemplar.t.wrapping_sub(self.last_t)));
            self.last_t = exemplar.t;
            value::put(out, exemplar.v);
            put_varint(out, exemplar.labels.iter().count() as u64);
            for text in exemplar.labels.iter().flat_map(|(name, value)| [name, value]) {
                put_varint(out, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Whether this series, or one after it, has exemplars.
    pub(super) fn has(&self, series: u64) -> bool {
        self.heads.has(series)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.heads.count() == 0
    }

    /// Size of the groups, without their number.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_varint(out, self.heads.count());
        out.extend_from_slice(&self.bytes);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        (self.heads, self.last_t) = (Heads::default(), 0);
    }
}

/// Reads the groups of a payload with so many series.
pub(super) fn read(groups: &mut Groups<Exemplar>, cursor: &mut Cursor<'_>, series: usize) -> Result<(), Error> {
    let mut t = 0i64;
    groups.read(cursor, series, EXEMPLARS_MAX, &FAULTS, |cursor| read_one(cursor, &mut t))
}

fn read_one(cursor: &mut Cursor<'_>, t: &mut i64) -> Result<Exemplar, Error> {
    *t = t.wrapping_add(unzigzag(cursor.varint()?));
    let n = cursor.varint()?;
    let v = value::read(n, || Ok(cursor.take(8)?.try_into().expect("eight bytes")))?;
    let count = cursor.length()?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push((read_text(cursor)?, read_text(cursor)?));
    }
    // Whoever wrote it, readers rely on its labels to be a set, and on their bound.
    Exemplar::new(*t, v, &pairs).map_err(|_| cursor.error("exemplar that is not valid"))
}

fn read_text<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Error> {
    let bytes = cursor.length()?;
    cursor.text(bytes)
}
