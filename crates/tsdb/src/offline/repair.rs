//! Takes what can be read of damaged blocks to new ones, and makes a manifest where there is none that can be read.
//!
//! The original stays beside the new file under a name that the engine does not touch, `….block.damaged`: linked before the manifest is
//! replaced, so no crash loses it. The price is its room on the disk until somebody removes it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use model::{Columns, Labels, Mark, TimeRange};

use super::raw::{Raw, labels_fault, reason_of};
use super::verify::{check_block, check_exemplars};
use super::{Directory, Faults, files_in};
use crate::Error;
use crate::block::{Block, Cache, ChunkRef, Memo, Writer};
use crate::columns::{View, merge_newer};
use crate::db::WIDE;
use crate::deletes::{self, is_cut, ranges_of};
use crate::disk::{self, Disk, Local, io};
use crate::exemplars::file::SUFFIX;
use crate::manifest::{BlockEntry, Manifest, span};
use crate::offsets::Offsets;

/// A part of a series that cannot be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    /// The series; `None` where its labels cannot be read either.
    pub labels: Option<Labels>,
    /// First and last time, where that is known.
    pub range: Option<TimeRange>,
    /// Samples, where that is known.
    pub samples: u64,
    /// Why.
    pub reason: String,
}

/// What became of a damaged block.
#[derive(Debug, Clone, PartialEq)]
pub struct Repaired {
    /// The block as it was.
    pub name: String,
    /// The block that has what could be read; `None` where nothing could.
    pub new: Option<String>,
    /// The name under which the original stays; `None` where there was no file.
    pub kept_as: Option<String>,
    /// What was wrong with it.
    pub faults: Faults,
    /// Samples that could be read.
    pub samples: u64,
    /// What could not be read. Of a block whose index is damaged, the labels of all series are lost, and with them all that is in it.
    pub lost: Vec<Lost>,
}

/// What became of a directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Why the manifest was made anew, where it was. What it said besides the blocks is lost: positions in the log, which is then read from its
    /// start, metadata of families, which senders tell again, and deletions: what is still in blocks, or in the log, is there again.
    pub manifest: Option<String>,
    /// The blocks that were damaged.
    pub blocks: Vec<Repaired>,
    /// The file of exemplars, where that was damaged: all of them are lost.
    pub exemplars: Option<RepairedExemplars>,
}

/// What became of a damaged file of exemplars.
#[derive(Debug, Clone, PartialEq)]
pub struct RepairedExemplars {
    /// The file as it was.
    pub name: String,
    /// The name under which it stays; `None` where there was none.
    pub kept_as: Option<String>,
    /// What was wrong with it.
    pub faults: Faults,
}

/// Repairs a directory on which no engine runs; what is sound is not touched. `each` is called after each block, whose repair is then
/// durable. The length of the blocks' spans is of use where the manifest is lost.
pub fn repair(dir: &Path, block_span_ms: i64, each: &mut dyn FnMut(&Repaired)) -> Result<Report, Error> {
    // Refuses what is no directory of an engine before a lock is created in it.
    drop(Directory::open(dir)?);
    let disk = Local::open(dir)?;
    // What is found to be in order is durable too, though a repair before this one may have failed where it made that so.
    disk::sync(&disk)?;
    let mut report = Report::default();
    let mut manifest = match Manifest::read(&disk, Some(block_span_ms)) {
        Ok(Some(manifest)) => manifest,
        Ok(None) => {
            report.manifest = Some("it is missing".to_owned());
            make_manifest(&disk, block_span_ms)?
        }
        Err(Error::Corrupt { reason, .. }) => {
            report.manifest = Some(reason);
            make_manifest(&disk, block_span_ms)?
        }
        Err(error) => return Err(error),
    };
    for entry in manifest.blocks.clone() {
        let faults = found_twice(|| check_block(&disk, &entry.name).faults);
        if faults.is_empty() {
            continue;
        }
        let repaired = repair_block(&disk, &mut manifest, &entry, faults)?;
        each(&repaired);
        report.blocks.push(repaired);
    }
    report.exemplars = repair_exemplars(&disk, &mut manifest)?;
    Ok(report)
}

/// Sets a file of exemplars aside that cannot be read.
fn repair_exemplars(disk: &Local, manifest: &mut Manifest) -> Result<Option<RepairedExemplars>, Error> {
    let Some(name) = manifest.exemplars.clone() else { return Ok(None) };
    let faults = found_twice(|| check_exemplars(disk, &name).faults);
    if faults.is_empty() {
        return Ok(None);
    }
    let kept_as = keep_damaged(disk, &name)?;
    manifest.exemplars = None;
    replace(disk, manifest, &name)?;
    Ok(Some(RepairedExemplars { name, kept_as, faults }))
}

/// What is wrong with a file; nothing where a second look finds nothing, since a call that failed once is no damage.
fn found_twice(check: impl Fn() -> Faults) -> Faults {
    let faults = check();
    if faults.is_empty() { faults } else { check() }
}

/// Makes a manifest of all blocks that lie here; durable when this returns.
///
/// The numbers of blocks ascend as they were begun. Some may be there that the lost one did not name, since a merge had replaced them and a crash came before
/// they were removed: what is in them is in the merged one too, which has a higher number and counts. So has one, and one that
/// was written again in the place of a damaged one, over a block that was written before it was begun; where both have a sample of the same time with different values, the older one then counts.
fn make_manifest(disk: &Local, block_span_ms: i64) -> Result<Manifest, Error> {
    let old = disk.path("manifest");
    if old.exists() {
        keep(&old, &disk.path("manifest.damaged"))?;
        disk::sync(disk)?;
    }
    let mut manifest = Manifest::default();
    for name in files_in(disk, ".block")? {
        let number = name.strip_suffix(".block").and_then(|number| number.parse::<u64>().ok());
        let Some(number) = number else { continue };
        manifest.next_block = manifest.next_block.max(number + 1);
        let span_of = |t: i64| span(t.div_euclid(block_span_ms.max(1)), block_span_ms.max(1));
        let range = Block::open(disk, &name, &Cache::new(0)).map(|block| block.range());
        // One that is not in one span, or not readable, may overlap all.
        let span = range.map(|range| (span_of(range.start_ms), range)).ok();
        let span = span.filter(|(span, range)| span.contains(range.end_ms)).map_or(WIDE, |(span, _)| span);
        manifest.blocks.push(BlockEntry::new(name, span, Offsets::default()));
    }
    for name in files_in(disk, SUFFIX)? {
        manifest.next_block = manifest.next_block.max(crate::manifest::number(&name) + 1);
        // Each has all that there were when it was written, so the last counts.
        if found_twice(|| check_exemplars(disk, &name).faults).is_empty() {
            manifest.exemplars = Some(name);
        }
    }
    manifest.write(disk)?;
    disk::sync(disk)?;
    Ok(manifest)
}

fn repair_block(disk: &Local, manifest: &mut Manifest, entry: &BlockEntry, faults: Faults) -> Result<Repaired, Error> {
    let name = entry.name.as_str();
    let new = format!("{:010}.block", manifest.next_block);
    manifest.next_block += 1;
    let mut repaired = Repaired::new(name, faults);
    // The new block is younger than the deletions, so they have to be done now.
    let cuts = |labels: &Labels| ranges_of(&manifest.deletes, entry.number(), labels.as_ref());
    let salvaged = salvage_twice(disk, &new, &cuts, &mut repaired);
    match salvaged {
        Ok(true) => repaired.new = Some(new),
        other => {
            let _ = disk::remove(disk, &new);
            other?;
        }
    }
    repaired.kept_as = keep_damaged(disk, name)?;
    manifest.blocks.retain_mut(|entry| {
        if entry.name == name {
            match &repaired.new {
                Some(new) => {
                    entry.name.clone_from(new);
                    // It lacks what could not be read, and what was deleted.
                    entry.from = Offsets::default();
                }
                None => return false,
            }
        }
        true
    });
    replace(disk, manifest, name)?;
    Ok(repaired)
}

impl Repaired {
    /// A block of which nothing was read yet.
    fn new(name: &str, faults: Faults) -> Self {
        Repaired { name: name.to_owned(), new: None, kept_as: None, faults, samples: 0, lost: Vec::new() }
    }
}

/// As [`salvage`], a second time where something was lost: a call that failed is no damage, and what it kept from being read may be read the next time.
fn salvage_twice(
    disk: &dyn Disk,
    to: &str,
    cuts: &dyn Fn(&Labels) -> Vec<TimeRange>,
    repaired: &mut Repaired,
) -> Result<bool, Error> {
    let mut first = repaired.clone();
    let any = salvage(disk, to, cuts, &mut first)?;
    let (is_same, any) = if first.lost.is_empty() {
        (true, any)
    } else {
        let mut second = repaired.clone();
        let again = salvage(disk, to, cuts, &mut second)?;
        (again == any && second == first, again)
    };
    *repaired = first;
    if is_same {
        Ok(any)
    } else {
        Err(Error::Invalid(format!("{} reads differently each time", disk.path(&repaired.name).display())))
    }
}

/// Gives a damaged file the name under which it stays; durable when this returns. `None` where there is no file.
fn keep_damaged(disk: &Local, name: &str) -> Result<Option<String>, Error> {
    let (path, kept) = (disk.path(name), format!("{name}.damaged"));
    let exists = path.exists();
    if exists {
        keep(&path, &disk.path(&kept))?;
    }
    disk::sync(disk)?;
    Ok(exists.then_some(kept))
}

/// Writes a manifest, and removes a file that it does not name any more.
fn replace(disk: &Local, manifest: &Manifest, name: &str) -> Result<(), Error> {
    manifest.write(disk)?;
    disk::sync(disk)?;
    disk::remove(disk, name)?;
    disk::sync(disk)
}

/// Gives a file a second name. A repair that a crash ended may have given it already.
fn keep(path: &Path, kept: &Path) -> Result<(), Error> {
    let inode = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino()));
    match fs::hard_link(path, kept) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && inode(path).ok() == inode(kept).ok() => Ok(()),
        linked => linked.map_err(io(format!("linking {} to {}", path.display(), kept.display()))),
    }
}

/// Writes what can be read of a block to a new one, which is durable but for its directory entry. Whether there is anything in it.
fn salvage(
    disk: &dyn Disk,
    to: &str,
    cuts: &dyn Fn(&Labels) -> Vec<TimeRange>,
    repaired: &mut Repaired,
) -> Result<bool, Error> {
    let Some(raw) = Raw::open(disk, &repaired.name, &mut Faults::default()) else {
        let reason = repaired.faults.listed.first().map(|fault| fault.reason.clone()).unwrap_or_default();
        repaired.lost.push(Lost { labels: None, range: None, samples: 0, reason });
        return Ok(false);
    };
    let (mut writer, mut memo) = (Writer::create(disk, to)?, Memo::ahead());
    let (mut bytes, mut chunk, mut samples) = (Vec::new(), Columns::default(), Columns::default());
    let mut before = String::new();
    for id in 0..raw.index.series() as u32 {
        let lost = |labels, at: Option<&ChunkRef>, reason: String| Lost {
            labels,
            range: at.map(|at| at.range),
            samples: at.map_or(0, |at| u64::from(at.samples)),
            reason,
        };
        let entry = match raw.index.entry(id, &mut memo) {
            Ok(entry) => entry,
            Err(error) => {
                let reason = reason_of(error).1;
                repaired.lost.push(lost(None, None, format!("series {id} of the index: {reason}")));
                continue;
            }
        };
        if let Some(reason) = labels_fault(&entry.labels).or_else(|| {
            (entry.labels.canonical() <= before.as_str()).then(|| "it does not come after the one before it".to_owned())
        }) {
            repaired.lost.push(lost(Some(entry.labels), None, reason));
            continue;
        }
        samples.clear();
        let cuts = cuts(&entry.labels);
        for at in entry.chunks.iter().filter(|at| !is_cut(&cuts, at)) {
            let mut read = raw.chunk(at, &mut bytes, &mut chunk);
            if read.is_ok() && samples.range(Mark::default()).is_some_and(|all| all.end_ms >= at.range.start_ms) {
                read = Err("the chunk begins before the one before it has ended".to_owned());
            }
            match read {
                Ok(()) => merge_newer(&mut samples, Mark::default(), &chunk),
                Err(reason) => repaired.lost.push(lost(Some(entry.labels.clone()), Some(at), reason)),
            }
        }
        deletes::apply(&cuts, Mark::default(), &mut samples);
        writer.push(entry.labels.as_ref(), View::of(&samples))?;
        repaired.samples += samples.samples() as u64;
        entry.labels.canonical().clone_into(&mut before);
    }
    let any = !writer.is_empty();
    writer.finish()?;
    if any {
        // Nothing is taken away from the old one before the new one can be read.
        Block::open(disk, to, &Cache::new(0))?;
    }
    Ok(any)
}
