//! What a thread read last of blocks.
//!
//! Series are asked for in the order in which they lie, some dozens by each thread of a query. So what lies behind what was read is read with it once that turns
//! out to be wanted, instead of by a call of the system each; of a few blocks side by side, since a series may have samples in several. The memory of a thread is
//! bounded by [`FILES_MAX`] times [`AHEAD_MAX`], whatever blocks there are. The price is what is read for nothing in the end: microseconds of a local disk, one
//! in some twenty times another request of object storage.

use std::cell::Cell;

use super::file::File;
use crate::Error;

/// Bytes that are read at once of series behind each other: some dozens of them.
const AHEAD_MAX: u64 = 32 << 10;
/// What lies between series that are read one behind the other, at the most.
const GAP_MAX: u64 = 4 << 10;
/// Blocks that are read side by side; merges of more read each series by itself.
const FILES_MAX: usize = 4;

thread_local! {
    /// The one that was read last is the last.
    static NEAR: Cell<Vec<Bytes>> = const { Cell::new(Vec::new()) };
}

/// What was read last of one file.
#[derive(Default)]
struct Bytes {
    /// [`File::number`], 0 where nothing is known.
    file: u64,
    at: u64,
    bytes: Vec<u8>,
    /// Where that ended which was asked for.
    end: u64,
    /// How much was read at once.
    ahead: u64,
}

impl Bytes {
    /// The bytes at a place, which are read if they are not there.
    fn get(&mut self, file: &File, at: u64, size: u64) -> Result<&[u8], Error> {
        let end = at.saturating_add(size);
        let is_there = self.file == file.number && self.at <= at && end <= self.at + self.bytes.len() as u64;
        if !is_there {
            let is_next = self.file == file.number && (self.end..=self.end + GAP_MAX).contains(&at);
            self.ahead = if is_next { (self.ahead * 2).max(size.saturating_mul(4)).min(AHEAD_MAX) } else { 0 };
            let wanted = size.max(self.ahead.min(file.bytes().saturating_sub(at)));
            (self.file, self.at) = (0, at);
            // What fails for bytes that nobody asked for is no fault of those that somebody did.
            let read = file.read_into(at, wanted, &mut self.bytes);
            if read.is_err() && wanted > size {
                file.read_into(at, size, &mut self.bytes)?
            } else {
                read?
            }
            self.file = file.number;
        }
        self.end = end;
        let from = (at - self.at) as usize;
        Ok(&self.bytes[from..from + size as usize])
    }
}

/// Lends the bytes of a file from a place on.
pub(super) fn with_bytes<T>(
    file: &File,
    at: u64,
    size: u64,
    see: impl FnOnce(&[u8]) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut near = NEAR.take();
    let known = near.iter().position(|bytes| bytes.file == file.number);
    let known = known.or_else(|| (near.len() == FILES_MAX).then_some(0));
    let mut own = known.map_or_else(Bytes::default, |known| near.remove(known));
    NEAR.set(near);
    let seen = own.get(file, at, size).and_then(see);
    // What is larger than what is read ahead is not kept.
    if own.bytes.capacity() as u64 <= AHEAD_MAX {
        let mut near = NEAR.take();
        near.push(own);
        NEAR.set(near);
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::block::counting::Counting;

    /// A disk with bytes of which none are as many behind each other; others with another size.
    fn disk(size: usize) -> Counting {
        Counting::new((0..size).map(|n| ((n * n + size) % 251) as u8).collect())
    }

    /// Looks at bytes, which must be those of the disk.
    fn look(file: &File, disk: &Counting, at: u64, size: u64) {
        with_bytes(file, at, size, |bytes| {
            assert!(*bytes == disk.0.bytes[at as usize..(at + size) as usize], "{at} {size}");
            Ok(())
        })
        .expect("reads");
    }

    #[test]
    fn what_lies_behind_is_read_with_it_once_it_is_asked_for_in_order() {
        let disk = disk(300_000);
        let file = File::open(&disk, "b").expect("opens");
        // To the end of the file and no further.
        (0..150).for_each(|n| look(&file, &disk, n * 2000, 1900));
        let reads = disk.reads();
        assert!(reads.len() < 15 && reads[0] == (0, 1900), "{reads:?}");
        assert!(reads.iter().all(|(_, size)| *size as u64 <= AHEAD_MAX), "{reads:?}");
        assert_eq!(reads.last().map(|(at, size)| at + *size as u64), Some(300_000));
        // Of what is not in order no more is read than is asked for.
        disk.reads();
        (0..20).rev().for_each(|n| look(&file, &disk, n * 10_000, 100));
        assert!(disk.reads().iter().all(|(_, size)| *size == 100));
    }

    #[test]
    fn blocks_are_read_ahead_side_by_side_up_to_a_few() {
        for (number, is_ahead) in [(FILES_MAX, true), (FILES_MAX + 1, false)] {
            let disks: Vec<Counting> = (0..number).map(|n| disk(300_000 + n)).collect();
            let files: Vec<File> = disks.iter().map(|disk| File::open(disk, "b").expect("opens")).collect();
            for n in 0..100 {
                files.iter().zip(&disks).for_each(|(file, disk)| look(file, disk, n * 2000, 1900));
            }
            let reads: Vec<usize> = disks.iter().map(|disk| disk.reads().len()).collect();
            assert!(reads.iter().all(|reads| if is_ahead { *reads < 10 } else { *reads == 100 }), "{reads:?}");
            let near = NEAR.take();
            assert!(near.len() <= FILES_MAX);
            assert!(near.iter().all(|bytes| bytes.bytes.capacity() as u64 <= AHEAD_MAX));
        }
    }

    #[test]
    fn what_cannot_be_read_behind_a_series_is_no_fault_of_it() {
        let disk = disk(100_000);
        let file = File::open(&disk, "b").expect("opens");
        disk.0.bad_from.store(10_000, Ordering::Relaxed);
        (0..5).for_each(|n| look(&file, &disk, n * 2000, 1900));
        with_bytes(&file, 10_000, 100, |_| Ok(())).expect_err("that is wanted itself");
    }

    #[test]
    fn another_file_is_never_taken_for_the_one_that_was_read() {
        let (one, other) = (disk(10_000), disk(20_000));
        let files = [File::open(&one, "b").expect("opens"), File::open(&other, "b").expect("opens")];
        for n in 0..100 {
            look(&files[0], &one, n * 100, 100);
            look(&files[1], &other, n * 100, 100);
        }
        assert!(one.reads().len() < 10 && other.reads().len() < 10);
    }
}
