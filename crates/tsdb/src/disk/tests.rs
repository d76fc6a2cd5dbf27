//! What every disk does, and what the simulated one loses.

use std::io::ErrorKind;

use super::simulated::{FAULTS, Fault, Loss, Simulated};
use super::*;

fn write(disk: &dyn Disk, name: &str, content: &[u8]) {
    disk.create(name).and_then(|mut out| out.write_all(content)).expect("written");
}

/// What an engine relies on.
fn conforms(disk: &dyn Disk) {
    let names = || {
        let mut names = disk.list().expect("lists");
        names.retain(|name| name != "lock");
        names.sort();
        names
    };
    assert_eq!(names(), [""; 0]);
    write(disk, "a", b"first");
    write(disk, "b", b"second");
    let held = disk.open("b").expect("opens");
    assert_eq!(held.bytes(), 6);
    let mut bytes = [0; 4];
    held.read_exact_at(&mut bytes, 2).expect("reads");
    assert_eq!(&bytes, b"cond");
    let error = held.read_exact_at(&mut bytes, 3).expect_err("beyond the end");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    disk.rename("a", "b").expect("renames");
    held.read_exact_at(&mut bytes, 0).expect("what is open stays readable");
    assert_eq!(&bytes, b"seco");
    assert_eq!((names(), disk.read("b").expect("reads")), (vec!["b".to_owned()], b"first".to_vec()));
    write(disk, "b", b"x");
    assert_eq!(disk.read("b").expect("reads"), b"x");
    disk.sync().expect("syncs");
    disk.remove("b").expect("removes");
    for error in [disk.remove("b").err(), disk.read("b").err(), disk.open("b").err(), disk.rename("b", "c").err()] {
        assert_eq!(error.expect("it is gone").kind(), ErrorKind::NotFound);
    }
    assert_eq!(names(), [""; 0]);
}

#[test]
fn the_local_disk_and_the_simulated_one_do_the_same() {
    let dir = tempfile::tempdir().expect("directory");
    conforms(&Local::open(dir.path()).expect("opens"));
    conforms(&Simulated::new(1));
}

#[test]
fn a_crash_takes_what_was_not_synced() {
    let disk = Simulated::new(1);
    let mut out = disk.create("synced").expect("creates");
    out.write_all(b"kept").and_then(|()| out.sync()).expect("written");
    write(&disk, "content", b"not synced");
    disk.sync().expect("syncs");
    out.write_all(b", and more").expect("written");
    disk.rename("synced", "renamed").expect("renames");
    let all = disk.restart(Loss::Nothing);
    assert_eq!(all.read("renamed").expect("there"), b"kept, and more");
    assert_eq!(all.read("content").expect("there"), b"not synced");
    let least = disk.restart(Loss::Unsynced);
    assert_eq!(least.read("synced").expect("there"), b"kept");
    assert_eq!(least.read("content").expect("there"), b"");
    assert!(least.read("renamed").is_err());
    let newest = disk.restart(Loss::AllButNewest);
    assert_eq!(newest.read("renamed").expect("there"), b"kept");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let torn = disk.restart(Loss::Torn);
        let name = torn.list().expect("lists").into_iter().find(|name| name != "content").expect("one of both");
        let bytes = torn.read(&name).expect("there");
        assert!(bytes.starts_with(b"kept"), "{bytes:?}");
        seen.insert((name, bytes.len(), bytes.ends_with(b"\0")));
    }
    assert!(seen.len() > 30, "{seen:?}");
    assert!(disk.list().is_err(), "the old process has ended");
}

#[test]
fn a_failed_sync_leaves_content_of_which_a_later_one_tells_nothing() {
    let disk = Simulated::new(1);
    let mut out = disk.create("a").expect("creates");
    disk.sync().expect("syncs");
    out.write_all(b"x").expect("written");
    disk.fail_at(disk.calls(), Fault::Error(ErrorKind::Other));
    out.sync().expect_err("fails");
    out.sync().expect("succeeds");
    assert_eq!(disk.restart(Loss::Unsynced).read("a").expect("there"), b"");
}

#[test]
fn a_full_disk_takes_a_part_and_then_nothing_until_there_is_room() {
    let disk = Simulated::new(1);
    disk.set_capacity(3);
    let mut out = disk.create("a").expect("creates");
    assert_eq!(out.write(b"four").expect("a part"), 3);
    assert_eq!(out.write(b"r").expect_err("full").kind(), ErrorKind::StorageFull);
    disk.set_capacity(4);
    assert_eq!(out.write(b"r").expect("room"), 1);
    assert_eq!((disk.used(), disk.read("a").expect("there")), (4, b"four".to_vec()));
    disk.fail_at(disk.calls(), Fault::ShortWrite);
    disk.set_capacity(100);
    let written = out.write(b"more than a byte").expect("writes");
    assert!((1..16).contains(&written), "{written}");
}

fn content(disk: &Simulated) -> Option<String> {
    disk.read("f").ok().map(|content| String::from_utf8(content).expect("whole"))
}

#[test]
fn whatever_call_fails_a_file_is_the_former_one_or_the_new_one() {
    let disk = Simulated::new(0);
    replace_and_sync(&disk, "f", b"before").expect("written");
    let before = disk.calls();
    replace_and_sync(&disk, "f", b"what comes after").expect("written");
    let calls = disk.calls() - before;
    assert!(calls >= 5, "{calls}");
    for (fault, loss) in FAULTS {
        for (seed, at) in (0..calls).flat_map(|at| (0..8).map(move |seed| (seed, at))) {
            for former in [None, Some("before")] {
                let disk = Simulated::new(seed);
                if let Some(former) = former {
                    replace_and_sync(&disk, "f", former.as_bytes()).expect("written");
                }
                disk.fail_at(disk.calls() + at, fault);
                let replaced = replace_and_sync(&disk, "f", b"what comes after");
                let disk = disk.restart(loss);
                disk.mend();
                let found = content(&disk);
                let is_new = found.as_deref() == Some("what comes after");
                let told = format!("{fault:?} at {at}, {loss:?}, seed {seed}: {found:?} after {replaced:?}");
                assert!(is_new || (replaced.is_err() && found.as_deref() == former), "{told}");
                replace_and_sync(&disk, "f", b"later").expect("what is left over is in nobody's way");
                assert_eq!(content(&disk.restart(Loss::Unsynced)).as_deref(), Some("later"), "{told}");
            }
        }
    }
}
