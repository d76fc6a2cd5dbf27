//! The file that says what counts: the blocks, the positions in the log that they reach, the exemplars, and what is known of metric families.
//!
//! A text of lines with a checksum, replaced as a whole: after a crash it is the old one or the new one. An operator can read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use model::{MatchOp, Matcher, Metadata, MetricType, TimeRange};

use crate::Error;
use crate::deletes::Delete;
use crate::disk::{Disk, io, replace};
use crate::families::UNKNOWN;
use crate::offsets::Offsets;

/// What the manifest says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Number of the next block.
    pub(crate) next_block: u64,
    /// Partition to the offset from which it is read after a restart.
    pub(crate) positions: BTreeMap<u32, i64>,
    /// The log whose offsets these and those of blocks are, where that is known.
    pub(crate) log: Option<String>,
    /// The blocks, in the order in which they were written: where they overlap, a later one wins.
    pub(crate) blocks: Vec<BlockEntry>,
    /// Deletions of which blocks are not free yet.
    pub(crate) deletes: Vec<Arc<Delete>>,
    /// The file of exemplars, where there are any.
    pub(crate) exemplars: Option<String>,
    /// What is known of families, with the time at which it was said last.
    pub(crate) metadata: BTreeMap<Metadata, i64>,
}

/// What a manifest says of its blocks and of the log, for those who keep a copy of the blocks elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of the next block: of two manifests of one history the one with the greater number is not the older one.
    pub next_block: u64,
    /// Partition to the offset from which it is read after a restart.
    pub positions: BTreeMap<u32, i64>,
    /// The blocks that count, as file name and span of time, in the order in which they were written.
    pub blocks: Vec<(String, TimeRange)>,
    /// The file of exemplars, where there are any.
    pub exemplars: Option<String>,
}

/// A block that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    /// Name of its file.
    pub(crate) name: String,
    /// The span of time that its samples are of. Two are the same or do not overlap, but for that of a wide block and for those of before the
    /// length was changed.
    pub(crate) span: TimeRange,
    /// The records of which it has all that is in that span; nothing where that is not known or where something was taken away.
    pub(crate) from: Offsets,
    /// The plan by which samples were left out of it; empty where none was, or it is not known any more.
    pub(crate) downsampled: String,
    /// The longest windows out of which samples were left, in milliseconds; 0 where none were.
    pub(crate) resolution_ms: u32,
}

/// Name of the file in a directory of blocks.
pub const NAME: &str = "manifest";
const VERSION: &str = "weir-manifest 3";
/// They had no exemplars, and no times with families. The first gave the span of a block as a number of spans since the epoch, the smallest number for a
/// wide one, and no offsets.
const FORMER: [&str; 2] = ["weir-manifest 1", "weir-manifest 2"];

impl Summary {
    /// Reads the content of a manifest; `None` where it is not whole.
    pub fn read(text: &str) -> Option<Summary> {
        let Manifest { next_block, positions, blocks, exemplars, .. } = parse(text, None)?;
        let blocks = blocks.into_iter().map(|block| (block.name, block.span)).collect();
        Some(Summary { next_block, positions, blocks, exemplars })
    }
}

impl BlockEntry {
    /// One out of which no samples were left.
    pub(crate) fn new(name: String, span: TimeRange, from: Offsets) -> Self {
        BlockEntry { name, span, from, downsampled: String::new(), resolution_ms: 0 }
    }

    /// Number of the block; numbers ascend in the order in which files were begun.
    pub(crate) fn number(&self) -> u64 {
        number(&self.name)
    }
}

/// Number of a block, by the name of its file.
pub(crate) fn number(name: &str) -> u64 {
    name.split('.').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

impl Manifest {
    /// Reads the manifest of a directory; `None` where there is none. One of the former version is of blocks of this length; where that is not
    /// known they are taken for wide ones.
    pub(crate) fn read(disk: &dyn Disk, block_span_ms: Option<i64>) -> Result<Option<Manifest>, Error> {
        let path = disk.path(NAME);
        let bytes = match disk.read(NAME) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(format!("reading {}", path.display()))(e)),
        };
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| parse(text, block_span_ms))
            .map(Some)
            .ok_or_else(|| Error::corrupt(&path.display().to_string(), 0, "not a manifest, or its checksum is wrong"))
    }

    /// Puts it in the place of the one that counts, for good once the disk is synced. If this fails the old one counts.
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), Error> {
        let replaced = replace(disk, NAME, self.print().as_bytes());
        replaced.map_err(io(format!("replacing {}", disk.path(NAME).display())))
    }

    /// The names of the files that it names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.blocks.iter().map(|block| &block.name).chain(&self.exemplars).cloned().collect()
    }

    fn print(&self) -> String {
        let mut out = format!("{VERSION}\nnext-block {}\n", self.next_block);
        if let Some(log) = &self.log {
            let _ = writeln!(out, "log {}", escape(log));
        }
        for (partition, offset) in &self.positions {
            let _ = writeln!(out, "position {partition} {offset}");
        }
        for block in &self.blocks {
            let TimeRange { start_ms, end_ms } = block.span;
            let _ = writeln!(out, "block {start_ms} {end_ms} {}{}", block.name, block.from);
            if block.resolution_ms > 0 || !block.downsampled.is_empty() {
                let plan = escape(&block.downsampled);
                let _ = writeln!(out, "downsampled {} {} {plan}", block.name, block.resolution_ms);
            }
        }
        for delete in &self.deletes {
            let Delete { before, range, matchers } = &**delete;
            let _ = write!(out, "delete {before} {} {}", range.start_ms, range.end_ms);
            for m in matchers {
                let _ = write!(out, " {} {} {}", escape(&m.name), m.op.as_str(), escape(&m.value));
            }
            out.push('\n');
        }
        if let Some(name) = &self.exemplars {
            let _ = writeln!(out, "exemplars {name}");
        }
        for (m, told) in &self.metadata {
            let (kind, family, unit, help) = (m.kind.as_str(), escape(&m.family), escape(&m.unit), escape(&m.help));
            let _ = writeln!(out, "family {told} {kind} {family} {unit} {help}");
        }
        let _ = writeln!(out, "crc32c {:08x}", crc32c::crc32c(out.as_bytes()));
        out
    }
}

/// The span of a number.
pub(crate) fn span(number: i64, length_ms: i64) -> TimeRange {
    let end = number.checked_add(1).and_then(|next| next.checked_mul(length_ms));
    TimeRange { start_ms: number.saturating_mul(length_ms), end_ms: end.map_or(i64::MAX, |end| end.saturating_sub(1)) }
}

fn parse(text: &str, block_span_ms: Option<i64>) -> Option<Manifest> {
    let at = text.rfind("\ncrc32c ")? + 1;
    let (content, checksum) = text.split_at(at);
    if checksum != format!("crc32c {:08x}\n", crc32c::crc32c(content.as_bytes())) {
        return None;
    }
    let mut lines = content.lines();
    let version = lines.next()?;
    let version = FORMER.iter().chain([&VERSION]).position(|known| *known == version)? + 1;
    let mut manifest = Manifest::default();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["next-block", n] => manifest.next_block = n.parse().ok()?,
            ["log", log] if version > 2 => manifest.log = Some(unescape(log)?),
            ["position", partition, offset] => {
                manifest.positions.insert(partition.parse().ok()?, offset.parse().ok()?);
            }
            ["block", number, name] if version == 1 => {
                let span = match (number.parse().ok()?, block_span_ms) {
                    (i64::MIN, _) | (_, None) => TimeRange::ALL,
                    (number, Some(length_ms)) => span(number, length_ms.max(1)),
                };
                manifest.blocks.push(BlockEntry::new((*name).to_owned(), span, Offsets::default()));
            }
            ["block", start, end, name, from @ ..] if version > 1 => {
                let span = TimeRange { start_ms: start.parse().ok()?, end_ms: end.parse().ok()? };
                let from = Offsets::parse(from)?;
                manifest.blocks.push(BlockEntry::new((*name).to_owned(), span, from));
            }
            ["downsampled", name, resolution_ms, plan] if version > 2 => {
                let block = manifest.blocks.iter_mut().find(|block| block.name == *name)?;
                (block.resolution_ms, block.downsampled) = (resolution_ms.parse().ok()?, unescape(plan)?);
            }
            ["delete", before, start, end, matchers @ ..] => {
                let range = TimeRange { start_ms: start.parse().ok()?, end_ms: end.parse().ok()? };
                let matchers = matchers.chunks(3).map(parse_matcher).collect::<Option<_>>()?;
                manifest.deletes.push(Arc::new(Delete { before: before.parse().ok()?, range, matchers }));
            }
            ["exemplars", name] if version > 2 => manifest.exemplars = Some((*name).to_owned()),
            ["family", kind, family, unit, help] if version < 3 => {
                manifest.metadata.insert(parse_metadata([kind, family, unit, help])?, UNKNOWN);
            }
            ["family", told, kind, family, unit, help] if version > 2 => {
                manifest.metadata.insert(parse_metadata([kind, family, unit, help])?, told.parse().ok()?);
            }
            _ => return None,
        }
    }
    Some(manifest)
}

fn parse_metadata(words: [&str; 4]) -> Option<Metadata> {
    let [kind, family, unit, help] = words;
    let kind = MetricType::from_name(kind)?;
    Some(Metadata { family: unescape(family)?, kind, help: unescape(help)?, unit: unescape(unit)? })
}

fn parse_matcher(words: &[&str]) -> Option<Matcher> {
    let [name, op, value] = words else { return None };
    let all = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];
    let op = all.into_iter().find(|known| known.as_str() == *op)?;
    Matcher::new(op, unescape(name)?, unescape(value)?).ok()
}

/// A word without spaces or line breaks; the empty text is `\e`.
fn escape(text: &str) -> String {
    if text.is_empty() {
        return "\\e".to_owned();
    }
    text.replace('\\', "\\\\").replace(' ', "\\s").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape(word: &str) -> Option<String> {
    let mut out = String::with_capacity(word.len());
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\\' => out.push('\\'),
                's' => out.push(' '),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                'e' => {}
                _ => return None,
            },
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let metadata =
            Metadata { family: "up".into(), kind: MetricType::Gauge, help: "a \\ b\n c".into(), unit: String::new() };
        let from = Offsets::parse(&["0:3..10", "0:12..17"]).expect("valid");
        Manifest {
            next_block: 8,
            positions: BTreeMap::from([(0, 17), (1, 0)]),
            log: Some("1f".into()),
            blocks: vec![BlockEntry {
                name: "00000007.block".into(),
                span: span(-1, 1000),
                from,
                downsampled: "{a=\"b\"}: 5m".into(),
                resolution_ms: 300_000,
            }],
            deletes: vec![Arc::new(Delete {
                before: 8,
                range: TimeRange { start_ms: -5, end_ms: 7 },
                matchers: vec![
                    Matcher::equal("__name__", "up"),
                    Matcher::new(MatchOp::NotRegex, "a b", "x|y z").expect("compiles"),
                ],
            })],
            exemplars: Some("7.exemplars".into()),
            metadata: BTreeMap::from([(metadata, 1000)]),
        }
    }

    #[test]
    fn manifest_is_golden() {
        let text = "weir-manifest 3\nnext-block 8\nlog 1f\nposition 0 17\nposition 1 0\nblock -1000 -1 00000007.block 0:3..10 0:12..17\ndownsampled 00000007.block 300000 {a=\"b\"}:\\s5m\ndelete 8 -5 7 __name__ = up a\\sb !~ x|y\\sz\nexemplars 7.exemplars\nfamily 1000 gauge up \\e a\\s\\\\\\sb\\n\\sc\n";
        assert_eq!(example().print(), format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes())));
        assert_eq!(parse(&example().print(), None), Some(example()));
    }

    #[test]
    fn a_summary_has_blocks_and_positions() {
        let summary = Summary::read(&example().print()).expect("whole");
        let blocks = vec![("00000007.block".to_owned(), span(-1, 1000))];
        let exemplars = example().exemplars;
        assert!(exemplars.is_some());
        assert_eq!(summary, Summary { next_block: 8, positions: BTreeMap::from([(0, 17), (1, 0)]), blocks, exemplars });
        assert_eq!(Summary::read("weir-manifest 3\n"), None);
    }

    #[test]
    fn the_second_version_is_read() {
        let with_checksum = |text: String| format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()));
        let text = with_checksum("weir-manifest 2\nblock -1000 -1 7.block\nfamily gauge up s a\\sb\n".into());
        let read = parse(&text, None).expect("reads");
        assert_eq!(read.blocks[0].span, span(-1, 1000));
        let up = Metadata { family: "up".into(), kind: MetricType::Gauge, help: "a b".into(), unit: "s".into() };
        assert_eq!(read.metadata, BTreeMap::from([(up, UNKNOWN)]));
        for line in ["exemplars 7.exemplars", "family 1 gauge up s h", "downsampled 7.block 1 x", "log 1f"] {
            assert_eq!(parse(&with_checksum(format!("weir-manifest 2\n{line}\n")), None), None, "{line}");
        }
    }

    #[test]
    fn the_first_version_is_read() {
        let text = format!("weir-manifest 1\nnext-block 8\nblock -1 7.block\nblock {} 6.block\n", i64::MIN);
        let text = format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()));
        let blocks = |block_span_ms| parse(&text, block_span_ms).expect("reads").blocks;
        let entry = |name: &str, span| BlockEntry::new(name.to_owned(), span, Offsets::default());
        assert_eq!(blocks(Some(1000)), [entry("7.block", span(-1, 1000)), entry("6.block", TimeRange::ALL)]);
        assert_eq!(blocks(None), [entry("7.block", TimeRange::ALL), entry("6.block", TimeRange::ALL)]);
    }

    #[test]
    fn every_flipped_byte_is_seen() {
        let text = example().print();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let read = String::from_utf8(bytes).ok().and_then(|t| parse(&t, None));
            assert_eq!(read, None, "byte {at}");
        }
    }
}
