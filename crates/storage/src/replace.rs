//! Small files beside the engine's own, each replaced as a whole.

use std::io;

use tsdb::disk::Disk;

/// Replaces a small file; durable when this returns. After an error it is the former one or the new one, whole.
pub(crate) fn replace(disk: &dyn Disk, name: &str, content: &str) -> io::Result<()> {
    let next = format!("{name}.new");
    let mut out = disk.create(&next)?;
    out.write_all(content.as_bytes())?;
    out.sync()?;
    disk.rename(&next, name)?;
    disk.sync()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tsdb::disk::simulated::{Fault, Loss, Simulated};

    use super::*;

    /// What may happen to a call, and what is lost when the process ends.
    const FAULTS: [(Fault, Loss); 7] = [
        (Fault::Crash, Loss::Nothing),
        (Fault::Crash, Loss::Unsynced),
        (Fault::Crash, Loss::AllButNewest),
        (Fault::Crash, Loss::Torn),
        (Fault::Error(ErrorKind::Other), Loss::Unsynced),
        (Fault::Error(ErrorKind::StorageFull), Loss::Torn),
        (Fault::ShortWrite, Loss::Unsynced),
    ];

    fn content(disk: &Simulated) -> Option<String> {
        disk.read("f").ok().map(|content| String::from_utf8(content).expect("whole"))
    }

    #[test]
    fn whatever_call_fails_a_file_is_the_former_one_or_the_new_one() {
        let disk = Simulated::new(0);
        replace(&disk, "f", "before").expect("written");
        let before = disk.calls();
        replace(&disk, "f", "what comes after").expect("written");
        let calls = disk.calls() - before;
        assert!(calls >= 5, "{calls}");
        for (fault, loss) in FAULTS {
            for (seed, at) in (0..calls).flat_map(|at| (0..8).map(move |seed| (seed, at))) {
                for former in [None, Some("before")] {
                    let disk = Simulated::new(seed);
                    if let Some(former) = former {
                        replace(&disk, "f", former).expect("written");
                    }
                    disk.fail_at(disk.calls() + at, fault);
                    let replaced = replace(&disk, "f", "what comes after");
                    let disk = disk.restart(loss);
                    disk.mend();
                    let found = content(&disk);
                    let is_new = found.as_deref() == Some("what comes after");
                    let told = format!("{fault:?} at {at}, {loss:?}, seed {seed}: {found:?} after {replaced:?}");
                    assert!(is_new || (replaced.is_err() && found.as_deref() == former), "{told}");
                    replace(&disk, "f", "later").expect("what is left over is in nobody's way");
                    assert_eq!(content(&disk.restart(Loss::Unsynced)).as_deref(), Some("later"), "{told}");
                }
            }
        }
    }
}
