//! Whether every byte of a directory is what was written, and says what the others say.

use std::collections::BTreeSet;
use std::path::Path;

use hashbrown::HashMap;
use model::{Columns, TimeRange};
use roaring::RoaringBitmap;

use super::raw::{Raw, labels_fault, reason_of};
use super::{Directory, Faults};
use crate::Error;
use crate::block::{Entry, Index, MAGIC, Memo, Newest};
use crate::disk::Disk;
use crate::exemplars::file;
use crate::postings::LabelIndex;

/// What became of one block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Its file.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// Series in it.
    pub series: u64,
    /// Chunks of them.
    pub chunks: u64,
    /// Samples that were decoded.
    pub samples: u64,
    /// What is wrong.
    pub faults: Faults,
}

/// What became of the exemplars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckedExemplars {
    /// Their file.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// Series that have any.
    pub series: u64,
    /// How many there are.
    pub exemplars: u64,
    /// What is wrong.
    pub faults: Faults,
}

/// What became of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong with the manifest, or between it and the files.
    pub manifest: Faults,
    /// The blocks, in the order of the manifest.
    pub blocks: Vec<Checked>,
    /// The exemplars, where there are any.
    pub exemplars: Option<CheckedExemplars>,
    /// Deletions in the manifest, of which samples are still in blocks.
    pub deletions: u64,
    /// Files of blocks and exemplars that the manifest does not name. The engine removes them when it is opened: a crash left them behind.
    pub orphans: Vec<String>,
}

impl Report {
    /// How many faults there are.
    pub fn faults(&self) -> u64 {
        let blocks = self.blocks.iter().map(|block| block.faults.count()).sum::<u64>();
        self.manifest.count() + blocks + self.exemplars.as_ref().map_or(0, |exemplars| exemplars.faults.count())
    }
}

/// Checks all of a directory: every checksum, that every chunk decodes to what the index says of it, that series and their chunks are in
/// order, that the postings find the series that have the labels, and that the exemplars can be read. `each` is called after each block. Changes nothing.
pub fn verify(dir: &Path, each: &mut dyn FnMut(&Checked)) -> Result<Report, Error> {
    let directory = Directory::open(dir)?;
    let names = directory.blocks();
    let mut report = Report { manifest: directory.faults.clone(), ..Report::default() };
    if let Some(manifest) = &directory.manifest {
        let mut seen = BTreeSet::new();
        for name in &names {
            if !seen.insert(name) {
                report.manifest.push("manifest", 0, format!("it names {name} twice"));
            }
        }
        for name in manifest.names() {
            let number = name.split_once('.').and_then(|(number, _)| number.parse::<u64>().ok());
            if number.is_none_or(|number| number >= manifest.next_block) {
                report.manifest.push("manifest", 0, format!("{name} is not below its next number of a file"));
            }
        }
        for delete in manifest.deletes.iter().filter(|delete| delete.before > manifest.next_block) {
            let reason = format!("a deletion is of all blocks below {}, which is not written yet", delete.before);
            report.manifest.push("manifest", 0, reason);
        }
        report.deletions = manifest.deletes.len() as u64;
        let (named, present) = (manifest.names(), directory.present.iter().chain(&directory.exemplars));
        report.orphans = present.filter(|name| !named.contains(*name)).cloned().collect();
        report.exemplars = manifest.exemplars.as_ref().map(|name| check_exemplars(&directory.disk, name));
    }
    for name in names {
        let checked = check_block(&directory.disk, &name);
        each(&checked);
        report.blocks.push(checked);
    }
    Ok(report)
}

/// Checks the file of exemplars.
pub(super) fn check_exemplars(disk: &dyn Disk, name: &str) -> CheckedExemplars {
    let mut checked = CheckedExemplars { name: name.to_owned(), ..CheckedExemplars::default() };
    match file::read(disk, name) {
        Ok((bytes, series)) => {
            (checked.bytes, checked.series) = (bytes, series.len() as u64);
            checked.exemplars = series.values().map(|own| own.len() as u64).sum();
        }
        Err(Error::Corrupt { position, reason, .. }) => checked.faults.push(name, position, reason),
        Err(error) => checked.faults.push(name, 0, error.to_string()),
    }
    checked
}

/// Checks one block.
pub(super) fn check_block(disk: &dyn Disk, name: &str) -> Checked {
    let mut checked = Checked { name: name.to_owned(), ..Checked::default() };
    let Some(raw) = Raw::open(disk, name, &mut checked.faults) else { return checked };
    checked.bytes = raw.bytes;
    let (mut walk, mut memo) = (Walk::new(&raw, name), Memo::ahead());
    for id in 0..raw.index.series() as u32 {
        match raw.index.entry(id, &mut memo) {
            Ok(entry) => walk.series(id, &entry, &mut checked),
            Err(error) => {
                walk.is_whole = false;
                let (at, reason) = reason_of(error);
                checked.faults.push(name, at.unwrap_or(raw.index_at), format!("series {id} of the index: {reason}"));
            }
        }
    }
    walk.finish(&mut checked);
    checked
}

/// What is held from one series to the next.
struct Walk<'a> {
    raw: &'a Raw,
    name: &'a str,
    /// Canonical text of the series before.
    before: Option<String>,
    /// Where the next chunk has to begin.
    place: u64,
    range: TimeRange,
    /// All series could be read.
    is_whole: bool,
    /// What the last samples of each group of series are, as the index should have it.
    newest: Vec<Newest>,
    /// Label name to value to series, as the postings should be.
    postings: HashMap<String, HashMap<String, RoaringBitmap>>,
    bytes: Vec<u8>,
    samples: Columns,
}

impl<'a> Walk<'a> {
    fn new(raw: &'a Raw, name: &'a str) -> Self {
        Walk {
            raw,
            name,
            before: None,
            place: MAGIC.len() as u64,
            range: TimeRange { start_ms: i64::MAX, end_ms: i64::MIN },
            is_whole: true,
            newest: Vec::new(),
            postings: HashMap::new(),
            bytes: Vec::new(),
            samples: Columns::default(),
        }
    }

    fn series(&mut self, id: u32, entry: &Entry, checked: &mut Checked) {
        checked.series += 1;
        let labels = &entry.labels;
        let mut index_fault = |reason: String| {
            checked.faults.push(self.name, self.raw.index_at, format!("series {id} of the index: {reason}"));
        };
        if let Some(reason) = labels_fault(labels) {
            index_fault(reason);
        }
        if self.before.as_deref().is_some_and(|before| before >= labels.canonical()) {
            index_fault(format!("{labels} does not come after the one before it"));
        }
        if entry.chunks.is_empty() {
            index_fault(format!("{labels} has no chunks"));
        }
        self.before = Some(labels.canonical().to_owned());
        for (name, value) in labels.iter() {
            self.postings.entry_ref(name).or_default().entry_ref(value).or_default().insert(id);
        }
        // Times that no chunk before it has lie before the first of its chunks; whether others are times is seen when they are read.
        for place in entry.chunks.iter().filter_map(|at| at.times) {
            if place.at == self.place {
                self.place = place.end();
            }
        }
        if let Some(last) = entry.chunks.last() {
            Newest::add(&mut self.newest, id, last);
        }
        let mut last = None;
        for at in &entry.chunks {
            checked.chunks += 1;
            let mut fault = |reason: &str| checked.faults.push(self.name, at.at, format!("{reason} (of {labels})"));
            if at.at != self.place {
                fault("the chunk does not begin where the one before it ends");
            }
            self.place = at.at.saturating_add(u64::from(at.bytes));
            if last.is_some_and(|last| last >= at.range.start_ms) {
                fault("the chunk begins before the one before it has ended");
            }
            last = Some(at.range.end_ms);
            match self.raw.chunk(at, &mut self.bytes, &mut self.samples) {
                Ok(()) => checked.samples += self.samples.len() as u64,
                Err(reason) => fault(&reason),
            }
            self.range.start_ms = self.range.start_ms.min(at.range.start_ms);
            self.range.end_ms = self.range.end_ms.max(at.range.end_ms);
        }
    }

    /// What can be said once all series were seen.
    fn finish(self, checked: &mut Checked) {
        let sound = checked.faults.is_empty();
        let (name, raw) = (self.name, self.raw);
        let mut fault = |position: u64, reason: &str| checked.faults.push(name, position, reason);
        if self.is_whole && self.place != raw.index_at {
            fault(self.place, "there are bytes between the chunks and the index");
        }
        if self.is_whole && self.newest != raw.index.newest() {
            fault(raw.index_at, "the index has other last samples of its groups than of their series");
        }
        let says = raw.claimed.filter(|_| sound);
        if says.is_some_and(|says| says != (checked.samples, self.range)) {
            fault(raw.bytes - crate::block::FOOTER as u64, "the footer has other samples than the chunks");
        }
        let expect = self.is_whole.then_some(&self.postings);
        for (at, reason) in postings_faults(&raw.index, expect) {
            checked.faults.push(name, at.unwrap_or(raw.index_at), reason);
        }
    }
}

/// What a label's values have, as it should be.
type Expected = HashMap<String, HashMap<String, RoaringBitmap>>;

/// Holds the postings of an index against what they should be, if that is known; in any case each can be read.
fn postings_faults(index: &Index, expect: Option<&Expected>) -> Vec<(Option<u64>, String)> {
    let mut faults = Vec::new();
    let names: BTreeSet<&str> = index.label_names().map(|(name, ..)| name).collect();
    for name in expect.iter().flat_map(|expect| expect.keys()).filter(|name| !names.contains(name.as_str())) {
        faults.push((None, format!("there are no postings of the label {name:?}")));
    }
    for name in names {
        let own = expect.and_then(|expect| expect.get(name));
        let (mut found, mut walk) = (0, index.walk(name));
        loop {
            let value = match walk.next() {
                Ok(Some(value)) => value,
                Ok(None) => break,
                Err(error) => {
                    let (at, reason) = reason_of(error);
                    faults.push((at, format!("the values of the label {name:?}: {reason}")));
                    break;
                }
            };
            found += 1;
            match index.equal(name, value) {
                Ok(ids) if expect.is_some() && own.and_then(|values| values.get(value)) != Some(&ids) => {
                    let reason = format!("the postings of {name}={value:?} are not those of the series that have it");
                    faults.push((None, reason));
                }
                Ok(_) => {}
                Err(error) => {
                    let (at, reason) = reason_of(error);
                    faults.push((at, format!("the postings of {name}={value:?}: {reason}")));
                }
            }
        }
        if expect.is_some() && found != own.map_or(0, HashMap::len) {
            faults.push((None, format!("the label {name:?} has other values in the postings than in the series")));
        }
    }
    faults
}
