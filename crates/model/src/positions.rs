//! Places in the log, as clients carry them from what they wrote to what they ask.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The header in which they are, of an answer to a write and of a query: `X-Weir-Offsets: 0=12,3=40`.
pub const OFFSETS_HEADER: &str = "x-weir-offsets";

/// Entries that a text may have: more than there are partitions.
const ENTRIES_MAX: usize = 4096;

/// Of some partitions the offset of a record, each partition once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions(BTreeMap<u32, i64>);

impl Positions {
    /// Adds a record; of two in one partition the later one stays.
    pub fn add(&mut self, partition: u32, offset: i64) {
        let known = self.0.entry(partition).or_insert(offset);
        *known = offset.max(*known);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Partitions, ascending, with the offset of each.
    pub fn iter(&self) -> impl Iterator<Item = (u32, i64)> {
        self.0.iter().map(|(partition, offset)| (*partition, *offset))
    }
}

impl FromIterator<(u32, i64)> for Positions {
    fn from_iter<I: IntoIterator<Item = (u32, i64)>>(all: I) -> Self {
        let mut positions = Positions::default();
        all.into_iter().for_each(|(partition, offset)| positions.add(partition, offset));
        positions
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (partition, offset)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{partition}={offset}")?;
        }
        Ok(())
    }
}

impl FromStr for Positions {
    type Err = String;

    /// Reads `PARTITION=OFFSET,…`; an empty text is none. The error names the entry that is wrong.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut positions = Positions::default();
        if text.trim().is_empty() {
            return Ok(positions);
        }
        for (at, entry) in text.split(',').enumerate() {
            if at == ENTRIES_MAX {
                return Err(format!("more than {ENTRIES_MAX} offsets"));
            }
            let parsed = entry.trim().split_once('=').and_then(|(partition, offset)| {
                let offset: i64 = offset.parse().ok().filter(|offset| *offset >= 0)?;
                Some((partition.parse().ok()?, offset))
            });
            let wrong = || format!("{:?} is not PARTITION=OFFSET", entry.trim());
            let (partition, offset) = parsed.ok_or_else(wrong)?;
            positions.add(partition, offset);
        }
        Ok(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again_and_the_later_offset_of_a_partition_counts() {
        let positions: Positions = [(3, 40), (0, 12), (3, 7)].into_iter().collect();
        assert_eq!(positions.to_string(), "0=12,3=40");
        assert_eq!("0=12, 3=7 ,3=40".parse(), Ok(positions));
        assert_eq!(" ".parse(), Ok(Positions::default()));
    }

    #[test]
    fn the_error_names_the_entry() {
        for wrong in ["3", "3=", "=4", "3=-1", "x=1", "3=4=5", "3=99999999999999999999"] {
            let text = format!("0=1,{wrong}");
            assert_eq!(text.parse::<Positions>(), Err(format!("{wrong:?} is not PARTITION=OFFSET")));
        }
        let many = vec!["1=1"; ENTRIES_MAX + 1].join(",");
        assert_eq!(many.parse::<Positions>(), Err("more than 4096 offsets".to_owned()));
    }
}
