use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use model::{Exemplar, Labels, Matcher, Sample, TimeRange};

use super::*;
use crate::block::{FOOTER, Memo, Place};
use crate::offline::inspect::inspect;
use crate::offline::layout::{copy, copy_file};
use crate::offline::repair;
use crate::offline::verify::{Report, verify};
use crate::testing::{Floats, floats};
use crate::{Db, Options};

fn labels(job: &str) -> Labels {
    Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid")
}

/// A directory of two blocks, `a` and `b` in each, one chunk a series.
fn directory() -> tempfile::TempDir {
    directory_at(|n| n * 1000)
}

/// The same, with samples at other times.
fn directory_at(time: impl Fn(i64) -> i64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    for round in 0..2 {
        let mut batch = db.begin();
        for (job, scale) in [("a", 1.0), ("b", 10.0)] {
            let samples: Vec<Sample> =
                (0..20).map(|n| Sample { t: round * 100_000 + time(n), v: n as f64 / scale }).collect();
            batch.append(labels(job).as_ref(), &samples);
        }
        batch.finish(3, round + 1);
        db.flush().expect("flushes");
    }
    dir
}

/// The same at irregular times, which both series share.
fn directory_of_scrapes() -> tempfile::TempDir {
    let dir = directory_at(|n| n * 1000 + n * n * n % 991);
    let directory = Directory::open(dir.path()).expect("opens");
    let raw = raw::Raw::open(&directory.disk, "0000000000.block", &mut Faults::default()).expect("sound");
    let times = |id| raw.index.entry(id, &mut Memo::default()).expect("there").chunks[0].times;
    assert!(times(0).is_some() && times(0) == times(1));
    dir
}

fn block(dir: &tempfile::TempDir, n: u64) -> PathBuf {
    dir.path().join(format!("{n:010}.block"))
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("written");
}

/// The blocks that were repaired.
fn repaired(dir: &tempfile::TempDir) -> Vec<repair::Repaired> {
    let mut told = Vec::new();
    let report = repair::repair(dir.path(), DAY, &mut |one| told.push(one.clone())).expect("repairs");
    assert_eq!(report.manifest, None);
    assert_eq!(report.blocks, told);
    told
}

const DAY: i64 = 24 * 3_600_000;

fn verified(dir: &tempfile::TempDir) -> Report {
    verify(dir.path(), &mut |_| {}).expect("verifies")
}

fn faults(dir: &tempfile::TempDir) -> Vec<String> {
    let report = verified(dir);
    let blocks = report.blocks.iter().flat_map(|block| &block.faults.listed);
    report.manifest.listed.iter().chain(blocks).map(ToString::to_string).collect()
}

/// The records that the blocks name, by the manifest.
fn records(dir: &Path) -> Vec<String> {
    let directory = Directory::open(dir).expect("opens");
    directory.manifest.expect("sound").blocks.iter().map(|entry| entry.from.to_string()).collect()
}

fn read(dir: &tempfile::TempDir) -> Floats {
    floats(&Db::open(dir.path(), Options::default()).expect("opens"), &[Matcher::equal("__name__", "up")])
}

#[test]
fn what_the_engine_wrote_is_sound() {
    let dir = directory();
    let report = verified(&dir);
    assert_eq!(report.faults(), 0, "{report:?}");
    let figures: Vec<_> = report.blocks.iter().map(|b| (b.series, b.chunks, b.samples)).collect();
    assert_eq!(figures, [(2, 2, 40), (2, 2, 40)]);
    assert_eq!(report.orphans, [""; 0]);
}

#[test]
fn every_flipped_byte_of_block_and_manifest_is_named_with_its_file() {
    check_flips(&directory());
    let dir = directory_of_scrapes();
    check_flips(&dir);
}

fn check_flips(dir: &tempfile::TempDir) {
    for (path, name) in [(block(dir, 1), "0000000001.block"), (dir.path().join("manifest"), "manifest")] {
        for at in 0..fs::read(&path).expect("read").len() {
            flip(&path, at);
            let found = faults(dir);
            assert!(found.iter().any(|fault| fault.starts_with(&format!("{name}: byte "))), "byte {at}: {found:?}");
            flip(&path, at);
        }
    }
    assert_eq!(faults(dir), [""; 0]);
}

/// Where index, its top and the footer of a block begin.
fn places(bytes: &[u8]) -> (usize, usize, usize) {
    let footer = bytes.len() - FOOTER;
    let at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize;
    (at(footer), at(footer + 8), footer)
}

/// The pages of the index of a block: of labels and chunks of the series, then values and postings of `__name__`, and those of `job`.
fn pages(dir: &tempfile::TempDir, n: u64) -> Vec<Place> {
    let directory = Directory::open(dir.path()).expect("opens");
    let raw = raw::Raw::open(&directory.disk, &format!("{n:010}.block"), &mut Faults::default()).expect("sound");
    raw.index.pages()
}

/// Makes a checksum right.
fn checksum(bytes: &mut [u8], of: std::ops::Range<usize>, at: usize) {
    let sum = crc32c::crc32c(&bytes[of]).to_le_bytes();
    bytes[at..at + 4].copy_from_slice(&sum);
}

#[test]
fn bytes_that_belong_to_nothing_are_a_fault() {
    let dir = directory();
    let mut bytes = fs::read(block(&dir, 0)).expect("read");
    let (index, top, _) = places(&bytes);
    bytes.splice(index..index, [1, 2, 3]);
    let footer = bytes.len() - FOOTER;
    bytes[footer..footer + 8].copy_from_slice(&(index as u64 + 3).to_le_bytes());
    bytes[footer + 8..footer + 16].copy_from_slice(&(top as u64 + 3).to_le_bytes());
    checksum(&mut bytes, footer..footer + FOOTER - 12, footer + FOOTER - 12);
    fs::write(block(&dir, 0), bytes).expect("written");
    let expect = format!("0000000000.block: byte {index}: there are bytes between the chunks and the index");
    assert_eq!(faults(&dir), [expect]);
}

#[test]
fn an_index_that_says_something_else_under_a_right_checksum_is_a_fault() {
    check_index(&directory());
    check_index(&directory_of_scrapes());
}

fn check_index(dir: &tempfile::TempDir) {
    let path = block(dir, 0);
    let sound = fs::read(&path).expect("read");
    let (index, top, footer) = places(&sound);
    let (expect, pages) = (read(dir), pages(dir, 0));
    // Postings have some bytes that their reader does not look at.
    let mut unread = 0;
    // Names and values are there once, so nothing else says what they are.
    let names = ["__name__", "job"].map(|name| {
        let at = sound[top..footer].windows(name.len()).position(|text| text == name.as_bytes()).expect("there");
        top + at..top + at + name.len()
    });
    let is_text = |at: usize| {
        let is_value = pages[2..].iter().step_by(2).any(|page| (page.at..page.end()).contains(&(at as u64)));
        let is_checksum = pages.iter().any(|page| (page.end() - 4..page.end()).contains(&(at as u64)));
        is_value || is_checksum || names.iter().any(|name| name.contains(&at))
    };
    for at in (index..footer + 16).chain(footer + 20..footer + FOOTER - 12).filter(|at| !is_text(*at)) {
        for bit in [1, 0x10] {
            let mut bytes = sound.clone();
            bytes[at] ^= bit;
            for page in &pages {
                let (from, to) = (page.at as usize, page.end() as usize);
                checksum(&mut bytes, from..to - 4, to - 4);
            }
            checksum(&mut bytes, top..footer, footer + 16);
            checksum(&mut bytes, footer..footer + FOOTER - 12, footer + FOOTER - 12);
            fs::write(&path, bytes).expect("written");
            if verified(dir).faults() == 0 {
                unread += 1;
                assert_eq!(read(dir), expect, "bit {bit} of byte {at} of {pages:?}");
            }
        }
    }
    assert!(unread < 30, "{unread}");
}

#[test]
fn facts_that_are_not_those_of_their_chunk_are_a_fault() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    let samples: Vec<Sample> = (0..100).map(|n| Sample { t: n * 1000, v: 3.0 }).collect();
    let mut batch = db.begin();
    batch.append(labels("a").as_ref(), &samples);
    batch.finish(0, 1);
    db.flush().expect("flushes");
    drop(db);
    assert_eq!(faults(&dir), [""; 0]);
    let mut bytes = fs::read(block(&dir, 0)).expect("read");
    // Facts end the page of chunks: always the whole number 3, and their sum.
    let chunks = pages(&dir, 0)[1];
    let (from, end) = (chunks.at as usize, chunks.end() as usize - 4);
    assert_eq!(bytes[end - 2..end], [0x80, 0x06]);
    bytes[end - 1] = 0x08;
    checksum(&mut bytes, from..end, end);
    fs::write(block(&dir, 0), bytes).expect("written");
    let found = faults(&dir);
    let reason = "0000000000.block: byte 8: the chunk's values are not those that the index tells of";
    assert!(found.len() == 1 && found[0].starts_with(reason), "{found:?}");
}

#[test]
fn blocks_and_manifest_that_do_not_know_each_other_are_told() {
    let dir = directory();
    fs::write(block(&dir, 7), fs::read(block(&dir, 0)).expect("read")).expect("written");
    assert_eq!(verified(&dir).orphans, ["0000000007.block"]);
    fs::remove_file(block(&dir, 0)).expect("removed");
    assert_eq!(faults(&dir), ["0000000000.block: byte 0: the manifest names it, and it is not there"]);
    fs::remove_file(dir.path().join("manifest")).expect("removed");
    assert_eq!(faults(&dir), ["manifest: byte 0: it is missing, and there are blocks"]);
    let empty = tempfile::tempdir().expect("directory");
    let error = verify(empty.path(), &mut |_| {}).expect_err("refused");
    assert!(error.to_string().contains("nothing of the storage engine"), "{error}");
}

#[test]
fn a_directory_on_which_an_engine_runs_is_refused() {
    let dir = directory();
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    let refused = |result: Result<(), Error>| {
        let error = result.expect_err("refused").to_string();
        assert!(error.contains("is another process using it?"), "{error}");
    };
    refused(verify(dir.path(), &mut |_| {}).map(drop));
    refused(inspect(dir.path(), 10).map(drop));
    refused(repair::repair(dir.path(), DAY, &mut |_| {}).map(drop));
    drop(db);
    fs::remove_file(dir.path().join("lock")).expect("removed");
    assert_eq!(verified(&dir).faults(), 0);
    assert!(!dir.path().join("lock").exists(), "reading leaves nothing behind");
}

#[test]
fn repair_keeps_what_can_be_read_and_names_what_is_lost() {
    let dir = directory();
    let mut expect = read(&dir);
    assert_eq!(repaired(&dir), [], "nothing is damaged");
    // In the first chunk of the first block, which is of `a`.
    flip(&block(&dir, 0), 12);
    let damaged = fs::read(block(&dir, 0)).expect("read");
    let repaired = repaired(&dir);
    assert_eq!(repaired.len(), 1);
    let one = &repaired[0];
    assert_eq!((one.name.as_str(), one.new.as_deref()), ("0000000000.block", Some("0000000002.block")));
    assert_eq!(one.samples, 20);
    let lost = [repair::Lost {
        labels: Some(labels("a")),
        range: Some(TimeRange { start_ms: 0, end_ms: 19_000 }),
        samples: 20,
        reason: "checksum of the chunk is wrong".to_owned(),
    }];
    assert_eq!(one.lost, lost);
    assert_eq!(fs::read(dir.path().join("0000000000.block.damaged")).expect("kept"), damaged);
    assert!(!block(&dir, 0).exists());
    expect.retain(|(of, t), _| *of != labels("a") || *t >= 100_000);
    assert_eq!(read(&dir), expect);
    assert_eq!(verified(&dir).faults(), 0);
    let names: Vec<_> = verified(&dir).blocks.into_iter().map(|block| block.name).collect();
    assert_eq!(names, ["0000000002.block", "0000000001.block"], "in its place");
    assert!(dir.path().join("0000000000.block.damaged").exists(), "the engine leaves it where it is");
}

#[test]
fn times_that_are_damaged_are_lost_with_the_chunks_that_share_them() {
    let dir = directory_of_scrapes();
    let mut expect = read(&dir);
    flip(&block(&dir, 0), 12);
    let reasons: Vec<_> =
        faults(&dir).into_iter().map(|fault| fault.split_once(": ").expect("a place").1.to_owned()).collect();
    assert!(
        reasons.iter().all(|reason| reason.contains("checksum of the times that it shares is wrong")),
        "{reasons:?}"
    );
    let repaired = repaired(&dir);
    let lost: Vec<_> = repaired[0].lost.iter().map(|lost| (lost.labels.clone(), lost.samples)).collect();
    assert_eq!(lost, [(Some(labels("a")), 20), (Some(labels("b")), 20)]);
    expect.retain(|(_, t), _| *t >= 100_000);
    assert_eq!(read(&dir), expect);
    assert_eq!(verified(&dir).faults(), 0);
}

#[test]
fn repair_of_a_footer_loses_nothing_and_of_an_index_all() {
    let dir = directory();
    let expect = read(&dir);
    let bytes = fs::read(block(&dir, 0)).expect("read").len();
    flip(&block(&dir, 0), bytes - 30);
    let of_footer = repaired(&dir);
    assert_eq!((of_footer[0].samples, of_footer[0].lost.len()), (40, 0));
    assert_eq!(read(&dir), expect);
    flip(&block(&dir, 1), bytes - FOOTER - 30);
    let of_index = repaired(&dir);
    assert_eq!((of_index[0].samples, &of_index[0].new), (0, &None));
    let reason = &of_index[0].lost[0].reason;
    assert!(reason.contains("checksum of the index is wrong: the labels of its series are not known"), "{reason}");
    assert!(dir.path().join("0000000001.block.damaged").exists());
    assert_eq!(read(&dir).len(), 40);
}

#[test]
fn repair_of_a_page_of_an_index_loses_the_series_that_it_is_of() {
    // Labels of the series, their chunks, values of `__name__`, postings of `__name__`, values of `job`, postings of `job`.
    for (page, samples, lost) in [(0, 0, 2), (1, 0, 2), (2, 0, 2), (3, 40, 0), (4, 0, 2), (5, 40, 0)] {
        let dir = directory();
        let mut expect = read(&dir);
        let place = pages(&dir, 0)[page];
        flip(&block(&dir, 0), place.at as usize + 2);
        let named = format!("0000000000.block: byte {}: ", place.at);
        assert!(faults(&dir).iter().any(|fault| fault.starts_with(&named)), "page {page}: {:?}", faults(&dir));
        let repaired = repaired(&dir);
        assert_eq!((repaired[0].samples, repaired[0].lost.len()), (samples, lost), "page {page}");
        assert!(repaired[0].lost.iter().all(|lost| lost.reason.contains("checksum of a page of the index is wrong")));
        expect.retain(|(_, t), _| *t >= 100_000 || samples > 0);
        assert_eq!(read(&dir), expect, "page {page}");
        assert_eq!(verified(&dir).faults(), 0);
    }
}

#[test]
fn a_repair_that_a_crash_ended_can_be_done_again() {
    let dir = directory();
    flip(&block(&dir, 0), 12);
    // As it is after the original got its second name, and before the manifest names the new block.
    fs::hard_link(block(&dir, 0), dir.path().join("0000000000.block.damaged")).expect("linked");
    fs::write(block(&dir, 2), b"half").expect("written");
    assert_eq!(repaired(&dir)[0].samples, 20);
    assert_eq!(read(&dir).len(), 60);
}

/// A copy of the files of a directory.
fn copy_of(dir: &tempfile::TempDir) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("directory");
    for entry in fs::read_dir(dir.path()).expect("read") {
        let name = entry.expect("entry").file_name();
        fs::write(to.path().join(&name), fs::read(dir.path().join(&name)).expect("read")).expect("copied");
    }
    // Two names of one file, as they are there.
    let (original, kept) = (block(&to, 0), to.path().join("0000000000.block.damaged"));
    if original.exists() && kept.exists() {
        fs::remove_file(&kept).expect("removed");
        fs::hard_link(&original, &kept).expect("linked");
    }
    to
}

#[test]
fn a_repair_can_be_done_again_after_a_crash_at_any_of_its_steps() {
    let damaged = directory();
    flip(&block(&damaged, 0), 12);
    let done = copy_of(&damaged);
    assert_eq!(repaired(&done)[0].samples, 20);
    let expect = read(&done);
    // What each step leaves, in their order: a file of the repaired directory, and as much of it as a crash may have let through.
    let steps: [(&str, &[usize]); 4] = [
        ("0000000002.block", &[0, 1, 100, usize::MAX]),
        ("0000000000.block.damaged", &[usize::MAX]),
        ("manifest.new", &[0, 1, 50, usize::MAX]),
        ("manifest", &[usize::MAX]),
    ];
    let (mut scenes, mut before) = (0, copy_of(&damaged));
    for (name, lengths) in steps {
        let whole = fs::read(done.path().join(name.trim_end_matches(".new"))).expect("read");
        for length in lengths {
            let scene = copy_of(&before);
            fs::write(scene.path().join(name), &whole[..whole.len().min(*length)]).expect("written");
            let scene = copy_of(&scene);
            // The manifest that is in its place is no longer beside it.
            let is_committed = name == "manifest";
            if is_committed {
                fs::remove_file(scene.path().join("manifest.new")).expect("removed");
            }
            let report = repair::repair(scene.path(), 86_400_000, &mut |_| {}).expect("repairs");
            assert_eq!((report.blocks.len(), report.manifest), (usize::from(!is_committed), None), "{name} {length}");
            assert_eq!(read(&scene), expect, "{name}, {length} bytes");
            let kept = fs::read(block(&scene, 0).with_extension("block.damaged")).expect("the original is there");
            assert!(kept == fs::read(block(&damaged, 0)).expect("read"), "{name}, {length} bytes");
            assert_eq!(verify(scene.path(), &mut |_| {}).expect("verifies").faults(), 0);
            scenes += 1;
            if *length == usize::MAX {
                before = copy_of(&before);
                fs::write(before.path().join(name), &whole).expect("written");
            }
        }
    }
    assert_eq!(scenes, 10);
}

#[test]
fn a_copy_that_breaks_off_at_any_file_has_no_manifest_and_is_refused() {
    let names = ["0000000000.block", "0000000001.block"];
    for name in names {
        let (dir, to) = (directory(), tempfile::tempdir().expect("directory"));
        let db = Db::open(dir.path(), Options::default()).expect("opens");
        // It is there for those who have it open, and no more for those who come.
        fs::rename(dir.path().join(name), dir.path().join("away")).expect("renamed");
        let target = to.path().join("copy");
        db.snapshot(&target).expect_err("it is missing");
        assert!(!target.join("manifest").exists(), "{name}: nothing counts");
        // What was laid out before it is no engine's.
        let opened = Db::open(&target, Options::default());
        assert!(name == names[0] || opened.is_err(), "{opened:?}");
        drop(opened);
        fs::rename(dir.path().join("away"), dir.path().join(name)).expect("renamed");
        let again = to.path().join("again");
        assert_eq!(db.snapshot(&again).expect("is taken"), 2);
        drop(db);
        let copy = Db::open(&again, Options::default()).expect("opens");
        assert_eq!(floats(&copy, &[]), read(&dir));
    }
}

#[test]
fn inspect_counts_what_is_there() {
    let dir = directory();
    let report = inspect(dir.path(), 1).expect("inspects");
    assert_eq!((report.series, report.samples, report.blocks.len()), (2, 80, 2));
    let parts = report.parts;
    assert_eq!(parts.times + parts.values + parts.index + parts.frames, report.bytes);
    assert_eq!(report.bytes, (0..2).map(|n| fs::metadata(block(&dir, n)).expect("there").len()).sum::<u64>());
    let decimal = report.encodings["decimal"];
    assert_eq!((decimal.chunks, decimal.samples, decimal.bytes), (4, 80, parts.values));
    assert_eq!((report.metrics[0].name.as_str(), report.metrics[0].series), ("up", 2));
    assert_eq!((report.labels[0].name.as_str(), report.labels[0].values), ("job", 2));
    assert_eq!((report.metric_names, report.label_names, report.labels.len()), (1, 2, 1));
    assert_eq!(report.positions, BTreeMap::from([(3, 2)]));
    let second = &report.blocks[1];
    assert_eq!((second.start_ms, second.end_ms, second.series, second.chunks), (100_000, 119_000, 2, 2));
    flip(&block(&dir, 0), 12);
    let report = inspect(dir.path(), 1).expect("inspects");
    assert_eq!((report.samples, report.damaged.len()), (60, 1), "{:?}", report.damaged);
}

fn delete(dir: &tempfile::TempDir, job: &str, end_ms: i64) {
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    db.delete(&[Matcher::equal("job", job)], TimeRange { start_ms: 0, end_ms }).expect("deletes");
}

#[test]
fn deletions_are_told_and_what_they_are_of_is_counted() {
    let dir = directory();
    delete(&dir, "a", 4_000);
    delete(&dir, "a", 6_000);
    assert_eq!((verified(&dir).faults(), verified(&dir).deletions), (0, 2));
    let report = inspect(dir.path(), 1).expect("inspects");
    assert_eq!((report.samples, report.deleted_samples), (80, 7));
    let first = inspect::Deletion { selector: "{job=\"a\"}".to_owned(), start_ms: 0, end_ms: 4_000 };
    assert_eq!((report.deletions.len(), &report.deletions[0]), (2, &first));
    let mut manifest = Directory::open(dir.path()).expect("opens").manifest.expect("is sound");
    manifest.next_block = 1;
    manifest.write(&Local::open(dir.path()).expect("opens")).expect("is written");
    let expect = "manifest: byte 0: a deletion is of all blocks below 2, which is not written yet";
    assert!(faults(&dir).contains(&expect.to_owned()), "{:?}", faults(&dir));
}

#[test]
fn what_is_deleted_does_not_come_back_with_a_repair() {
    let dir = directory();
    delete(&dir, "a", 4_000);
    let expect = read(&dir);
    assert_eq!(expect.len(), 75);
    // Without its footer, the range of the block is not known.
    let bytes = fs::read(block(&dir, 0)).expect("read").len();
    flip(&block(&dir, 0), bytes - 30);
    let of_footer = repaired(&dir);
    assert_eq!((of_footer[0].samples, of_footer[0].lost.len()), (35, 0));
    assert_eq!(read(&dir), expect);
    assert_eq!(records(dir.path())[0], "", "what is deleted is in its records");
    // A chunk of which nothing was left is no loss.
    delete(&dir, "a", 19_000);
    flip(&block(&dir, 2), 12);
    let of_chunk = repaired(&dir);
    assert_eq!((of_chunk[0].samples, of_chunk[0].lost.len()), (20, 0));
    assert_eq!(read(&dir).len(), 60);
}

#[test]
fn a_copy_has_the_same_samples_and_no_positions() {
    let dir = directory();
    let expect = read(&dir);
    let place = tempfile::tempdir().expect("directory");
    let to = place.path().join("a/b");
    copy(dir.path(), &to).expect("copies");
    let error = copy(dir.path(), &to).expect_err("refused").to_string();
    assert!(error.ends_with("is there already"), "{error}");
    for n in 0..2 {
        fs::remove_file(block(&dir, n)).expect("removed");
    }
    let db = Db::open(&to, Options::default()).expect("opens");
    assert_eq!(db.positions(), BTreeMap::new());
    assert_eq!(db.stats().block_samples, expect.len() as u64);
    drop(db);
    assert_eq!(records(&to), ["", ""], "its log may be another one");
    assert_eq!(verify(&to, &mut |_| {}).expect("verifies").faults(), 0);
    assert!(copy(dir.path(), &place.path().join("c")).is_err(), "the blocks are not there");
}

#[test]
fn a_file_is_copied_where_it_cannot_be_linked() {
    let dir = tempfile::tempdir().expect("directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let content: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    fs::write(&from, &content).expect("written");
    let disk = Local::open(dir.path()).expect("opens");
    copy_file(&*disk.open("from").expect("opens"), &disk, "to").expect("copies");
    assert!(fs::read(&to).expect("read") == content);
}

#[test]
fn a_manifest_that_is_lost_is_made_of_the_blocks() {
    let dir = directory();
    let path = dir.path().join("manifest");
    let (sound, expect) = (fs::read(&path).expect("read"), read(&dir));
    let made = |reason: &str| {
        let report = repair::repair(dir.path(), DAY, &mut |_| {}).expect("repairs");
        assert_eq!((report.manifest.as_deref(), report.blocks), (Some(reason), Vec::new()));
        assert_eq!((faults(&dir), read(&dir)), (Vec::new(), expect.clone()));
        let blocks = inspect(dir.path(), 1).expect("inspects").blocks;
        assert_eq!(blocks.iter().map(|block| block.span).collect::<Vec<_>>(), [Some([0, DAY - 1]); 2]);
        let db = Db::open(dir.path(), Options::default()).expect("opens");
        assert_eq!(db.positions(), BTreeMap::new(), "the log is read from its start");
        // The next number is free.
        let mut batch = db.begin();
        batch.append(labels("a").as_ref(), &[Sample { t: 0, v: 0.0 }]);
        batch.finish(0, 1);
        db.flush().expect("flushes");
        drop(db);
        fs::remove_file(block(&dir, 2)).expect("the third block");
    };
    fs::remove_file(&path).expect("removed");
    made("it is missing");
    let mut damaged = sound;
    damaged[20] ^= 1;
    fs::write(&path, &damaged).expect("written");
    made("not a manifest, or its checksum is wrong");
    assert_eq!(fs::read(dir.path().join("manifest.damaged")).expect("kept"), damaged);
}

/// A directory as before, with exemplars in file number 2.
fn with_exemplars() -> tempfile::TempDir {
    let dir = directory();
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    let mut batch = db.begin();
    batch.exemplars(labels("a").as_ref(), &[1, 2].map(|t| Exemplar::new(t, 0.5, &[("trace", "x")]).expect("valid")));
    batch.finish(3, 3);
    db.flush().expect("flushes");
    dir
}

fn exemplars(dir: &tempfile::TempDir) -> usize {
    Db::open(dir.path(), Options::default()).expect("opens").stats().exemplars
}

#[test]
fn exemplars_are_verified_and_inspected() {
    let dir = with_exemplars();
    let report = verified(&dir);
    let checked = report.exemplars.as_ref().expect("there are some");
    assert_eq!((report.faults(), checked.series, checked.exemplars), (0, 1, 2));
    let inspected = inspect(dir.path(), 10).expect("inspects");
    let figures = (inspected.exemplars, inspected.exemplar_series, inspected.exemplar_bytes);
    assert_eq!(figures, (2, 1, checked.bytes));
    let path = dir.path().join("0000000002.exemplars");
    for at in 0..fs::read(&path).expect("read").len() {
        flip(&path, at);
        let report = verified(&dir);
        let told = report.exemplars.as_ref().expect("there are some").faults.listed[0].to_string();
        assert!(told.starts_with("0000000002.exemplars: byte ") && report.faults() == 1, "byte {at}: {told}");
        flip(&path, at);
    }
    fs::write(dir.path().join("0000000009.exemplars"), b"left").expect("written");
    assert_eq!(verified(&dir).orphans, ["0000000009.exemplars"]);
}

#[test]
fn damaged_exemplars_are_set_aside_and_nothing_else_is_touched() {
    let dir = with_exemplars();
    let before = read(&dir);
    flip(&dir.path().join("0000000002.exemplars"), 20);
    let report = repair::repair(dir.path(), DAY, &mut |_| {}).expect("repairs");
    let repaired = report.exemplars.expect("was damaged");
    assert_eq!(repaired.kept_as.as_deref(), Some("0000000002.exemplars.damaged"));
    assert_eq!((repaired.faults.count(), report.blocks.len()), (1, 0));
    assert_eq!(verified(&dir).faults(), 0);
    assert_eq!((read(&dir), exemplars(&dir)), (before, 0));
    assert!(dir.path().join("0000000002.exemplars.damaged").exists());
    assert_eq!(repair::repair(dir.path(), DAY, &mut |_| {}).expect("repairs").exemplars, None);
}

#[test]
fn a_manifest_that_is_made_anew_has_the_newest_exemplars_that_can_be_read() {
    let dir = with_exemplars();
    let file = |n: u64| dir.path().join(format!("{n:010}.exemplars"));
    fs::write(file(7), fs::read(file(2)).expect("read")).expect("written");
    flip(&file(7), 20);
    fs::write(dir.path().join("manifest"), b"nothing").expect("written");
    repair::repair(dir.path(), DAY, &mut |_| {}).expect("repairs");
    assert_eq!(exemplars(&dir), 2);
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    let mut batch = db.begin();
    batch.exemplars(labels("a").as_ref(), &[Exemplar::new(3, 0.5, &[]).expect("valid")]);
    batch.finish(3, 4);
    db.flush().expect("flushes");
    assert!(file(8).exists(), "no name is given twice");
}
