//! The canonical texts of a payload's series, one after the other.
//!
//! Series of a few lists of names take turns in a payload, and of one list most values are those of the series before. So the last text of each list is kept, and only
//! what differs is written over it. The price is a little memory, which is bounded in number and size; what is beyond it is built anew.

use std::ops::Range;
use std::str;

/// Lists of names whose texts are kept. A target of scrapes has some tens.
const KEPT_MAX: usize = 64;
/// Largest text that is kept: real series are a tenth of it.
const BYTES_MAX: usize = 4096;

/// The texts of series whose names are told by the number of their list.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// By the number of the list, the first of them.
    kept: Vec<Text>,
    /// Of the list that was last among all others.
    other: Text,
}

/// A canonical text.
#[derive(Debug, Default)]
struct Text {
    /// The list of names that it is of; `None` where it is of another payload.
    list: Option<u32>,
    bytes: Vec<u8>,
    /// The value of each label, by its number among the symbols, and where it ends.
    labels: Vec<(u32, usize)>,
}

impl Texts {
    /// Begins another payload.
    pub(super) fn begin(&mut self) {
        self.kept.iter_mut().chain([&mut self.other]).for_each(|text| text.list = None);
    }

    /// The text of a series with these names, by their numbers among the symbols; of each name `values` has that of its value. A list of names has the same number
    /// throughout a payload.
    pub(super) fn of(&mut self, list: u32, names: &[u32], values: &[u32], symbols: &[&str]) -> &str {
        let at = list as usize;
        if at >= KEPT_MAX || self.other.list == Some(list) {
            self.other.set(list, names, values, symbols);
            return self.other.as_str();
        }
        if self.kept.len() <= at {
            self.kept.resize_with(at + 1, Text::default);
        }
        self.kept[at].set(list, names, values, symbols);
        if self.kept[at].bytes.len() > BYTES_MAX {
            self.other = std::mem::take(&mut self.kept[at]);
            return self.other.as_str();
        }
        self.kept[at].as_str()
    }
}

impl Text {
    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes).expect("pieces of a text, whole")
    }

    fn set(&mut self, list: u32, names: &[u32], values: &[u32], symbols: &[&str]) {
        if self.list == Some(list) {
            self.change(names, values, symbols);
            return;
        }
        self.list = Some(list);
        self.bytes.clear();
        self.labels.clear();
        for name in names {
            let value = values[*name as usize];
            self.bytes.extend_from_slice(symbols[*name as usize].as_bytes());
            self.bytes.extend_from_slice(symbols[value as usize].as_bytes());
            self.labels.push((value, self.bytes.len()));
        }
    }

    /// Writes the values that are others over those before. Most are as long as these, and then nothing moves.
    fn change(&mut self, names: &[u32], values: &[u32], symbols: &[&str]) {
        for (place, name) in names.iter().enumerate() {
            let (before, end) = self.labels[place];
            let value = values[*name as usize];
            if value == before {
                continue;
            }
            let (start, text) = (end - symbols[before as usize].len(), symbols[value as usize].as_bytes());
            self.labels[place].0 = value;
            if text.len() == end - start {
                self.bytes[start..end].copy_from_slice(text);
                continue;
            }
            self.replace(start..end, text);
            // Wraps where the text shrinks; the sum is right all the same.
            let moved = (start + text.len()).wrapping_sub(end);
            self.labels[place..].iter_mut().for_each(|(_, end)| *end = end.wrapping_add(moved));
        }
    }

    /// Writes other bytes in the place of some, which are not as many. By hand, since the library does it one byte after the other.
    fn replace(&mut self, place: Range<usize>, by: &[u8]) {
        let before = self.bytes.len();
        let (end, more) = (place.start + by.len(), by.len().saturating_sub(place.len()));
        self.bytes.resize(before + more, 0);
        self.bytes.copy_within(place.end..before, end);
        self.bytes.truncate(before - place.len() + by.len());
        self.bytes[place.start..end].copy_from_slice(by);
    }
}
