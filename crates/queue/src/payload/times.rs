//! Times of samples. The series of one scrape share them, so a list of times is told once for all that follow each other, and in it how
//! the distances differ, which is nothing where they are regular.

use model::Sample;

use super::cursor::Cursor;
use super::{put_varint, unzigzag, zigzag};
use crate::Error;

/// Gathers the times of one series after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// The times of the series before.
    list: Vec<i64>,
    /// How many series after the first have had these.
    repeats: u64,
}

impl Writer {
    pub(super) fn push(&mut self, samples: &[Sample]) {
        if samples.is_empty() {
            return;
        }
        if self.list.len() == samples.len() && self.list.iter().zip(samples).all(|(t, sample)| *t == sample.t) {
            self.repeats += 1;
            return;
        }
        self.end_list();
        let (mut t, mut distance) = (self.list.first().copied().unwrap_or(0), 0i64);
        self.list.clear();
        for sample in samples {
            let own = sample.t.wrapping_sub(t);
            put_varint(&mut self.bytes, zigzag(own.wrapping_sub(distance)));
            // The first is told from the first of the list before, which is no distance between samples.
            distance = if self.list.is_empty() { 0 } else { own };
            t = sample.t;
            self.list.push(t);
        }
    }

    fn end_list(&mut self) {
        if !self.list.is_empty() {
            put_varint(&mut self.bytes, self.repeats);
            self.repeats = 0;
        }
    }

    /// Size of what [`Writer::write`] adds, at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + 10
    }

    /// Adds them to the body; nothing is gathered then.
    pub(super) fn write(&mut self, body: &mut Vec<u8>) {
        self.end_list();
        body.extend_from_slice(&self.bytes);
        self.clear();
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.repeats = 0;
    }
}

/// Reads the times of series that have so many samples, as samples without values.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    counts: impl Iterator<Item = usize>,
    samples: &mut Vec<Sample>,
) -> Result<(), Error> {
    let (mut list, mut repeats, mut first) = (0..0, 0u64, 0i64);
    for count in counts.filter(|count| *count > 0) {
        let start = samples.len();
        if repeats > 0 {
            if count != list.len() {
                return Err(cursor.error("times of a series with another number of samples"));
            }
            samples.extend_from_within(list.clone());
            list = start..samples.len();
            repeats -= 1;
            continue;
        }
        let (mut t, mut distance) = (first, 0i64);
        for at in 0..count {
            let own = distance.wrapping_add(unzigzag(cursor.varint()?));
            distance = if at == 0 { 0 } else { own };
            t = t.wrapping_add(own);
            samples.push(Sample { t, v: 0.0 });
        }
        first = samples[start].t;
        list = start..samples.len();
        repeats = cursor.varint()?;
    }
    if repeats > 0 {
        return Err(cursor.error("times of more series than there are"));
    }
    Ok(())
}
