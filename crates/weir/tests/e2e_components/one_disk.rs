//! The test of what `power_loss` stands on: processes share one disk, and what one of them wrote is durable once another synced it.

use std::fs;
use std::process::Command;

use crate::disk::Disk;
use crate::support::run;

#[test]
fn processes_share_what_is_durable_and_what_is_not() {
    let mut disk = Disk::of(tempfile::tempdir().expect("directory").path());
    let on = |disk: &Disk, words: &[&str]| {
        run(Command::new(words[0]).args(&words[1..]).current_dir(disk.data()).envs(disk.env()));
    };
    on(&disk, &["sh", "-c", "echo old > \"$POWERLOSS_ROOT/a\""]);
    on(&disk, &["sync", "a", "."]);
    disk.lose_power();
    assert_eq!(fs::read_to_string(disk.data().join("a")).expect("a is there"), "old\n");

    // The new file may get the inode of the removed one, whose removal was not synced.
    on(&disk, &["rm", "a"]);
    on(&disk, &["sh", "-c", "echo new > \"$POWERLOSS_ROOT/b\""]);
    on(&disk, &["sync", "b"]);
    disk.lose_power();
    assert_eq!(fs::read_to_string(disk.data().join("a")).expect("a is there"), "old\n");
    assert!(!disk.data().join("b").exists(), "the folder was not synced");
}
