//! Which blocks to merge, and the merge.

use std::ops::Range;
use std::sync::Arc;

use model::{Cancel, Columns, Held, Labels, Mark, TimeRange};

use crate::Error;
use crate::block::{Block, Memo, Recent, Writer};
use crate::columns::{View, merge_newer};
use crate::db::Pace;
use crate::deletes::{self, Cuts};
use crate::retention::Floors;

/// Fewer blocks than this are not worth a merge while more come.
const MERGE_MIN: usize = 4;
/// More are not merged at once, so that a merge has an end.
const MERGE_MAX: usize = 16;
/// Blocks are merged as long as the largest is no more than so many times what the others have together, so that what a sample is written with grows each
/// time: by half while its span is, by an eighth once it is over.
const RATIO: u64 = 2;
const RATIO_OVER: u64 = 8;
/// Series after which it is looked how much memory a merge takes.
const LOOK_EVERY: usize = 64;

/// What was written.
pub(crate) struct Merged {
    pub(crate) is_empty: bool,
    /// Nothing was expired, deleted or left out of what the blocks held.
    pub(crate) is_whole: bool,
    /// Columns of times that the writer forgot.
    pub(crate) times_forgotten: u64,
}

/// Chooses among blocks of one span, given by their sizes from old to new.
///
/// While more are written: the newest ones, as long as each is no larger than twice those after it together. So sizes grow geometrically with age and every
/// sample is written a logarithmic number of times. Once it is quiet, the most in a row of which the largest is not too large beside the others: two are
/// enough, and few are left.
pub(crate) fn choose(sizes: &[u64], pace: Pace) -> Option<Range<usize>> {
    match pace {
        Pace::Written => newest(sizes),
        Pace::Quiet => most(sizes, RATIO),
        Pace::Over => most(sizes, RATIO_OVER),
    }
}

fn newest(sizes: &[u64]) -> Option<Range<usize>> {
    let mut sum = 0u64;
    let mut from = sizes.len();
    for (at, size) in sizes.iter().enumerate().rev() {
        let fits = from == sizes.len() || *size <= sum.saturating_mul(RATIO);
        if !fits || sizes.len() - at > MERGE_MAX {
            break;
        }
        sum += size;
        from = at;
    }
    (sizes.len() - from >= MERGE_MIN).then_some(from..sizes.len())
}

/// The most blocks in a row, and of as many the newest, of which the largest is no more than so many times the others.
fn most(sizes: &[u64], ratio: u64) -> Option<Range<usize>> {
    let fits = |run: &[u64]| {
        let largest = run.iter().copied().max().unwrap_or(0);
        largest <= (run.iter().sum::<u64>() - largest).saturating_mul(ratio)
    };
    let lengths = (2..=sizes.len().min(MERGE_MAX)).rev();
    lengths
        .flat_map(|length| (0..=sizes.len() - length).rev().map(move |from| from..from + length))
        .find(|run| fits(&sizes[run.clone()]))
}

/// Given a series with its samples, those with some left out; `None` where all stay.
pub(crate) type LeaveOut<'a> = dyn FnMut(&Labels, &Columns) -> Result<Option<Columns>, Error> + 'a;

/// Writes one block with all that these hold, but for what is expired, deleted or to be left out; of samples at the same time that of the later block stays.
///
/// Series by series, so that memory is that of the largest series, of the index of what is written, and of the labels that are looked up ahead in each source, which is held of `held`: where there is too little
/// it fails with [`Error::Memory`]. The file is durable, its directory entry not.
pub(crate) fn merge(
    sources: &[(Arc<Block>, Cuts)],
    floors: &Floors<'_>,
    leave_out: &mut LeaveOut<'_>,
    mut writer: Writer,
    held: &mut Held,
    cancel: &Cancel,
) -> Result<Merged, Error> {
    let mut is_whole = true;
    let mut at: Vec<u32> = vec![0; sources.len()];
    let (mut current, mut memos, mut recent) = (Vec::new(), Vec::new(), Vec::new());
    for (block, _) in sources {
        recent.push(Recent::default());
        let mut memo = Memo::ahead();
        current.push(entry(block, 0, &mut memo)?);
        memos.push(memo);
    }
    let (mut samples, mut piece, mut series) = (Columns::default(), Columns::default(), 0usize);
    while let Some(next) =
        current.iter().flatten().map(|(labels, _)| labels).min_by_key(|labels| labels.canonical()).cloned()
    {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if series.is_multiple_of(LOOK_EVERY) {
            let ahead: usize = memos.iter().map(Memo::memory).sum();
            held.grow_to(writer.memory() + samples.memory() + piece.memory() + ahead)?;
        }
        series += 1;
        samples.clear();
        let keep = TimeRange { start_ms: floors.of(next.as_ref()), end_ms: i64::MAX };
        for (n, (block, cuts)) in sources.iter().enumerate() {
            let Some((_, chunks)) = current[n].take_if(|(labels, _)| *labels == next) else { continue };
            let cuts = cuts.of(at[n]);
            is_whole &= cuts.is_empty() && chunks.first().is_none_or(|first| keep.contains(first.range.start_ms));
            piece.clear();
            block.read_once(&chunks, keep, &mut recent[n], &mut piece)?;
            deletes::apply(&cuts, Mark::default(), &mut piece);
            merge_newer(&mut samples, Mark::default(), &piece);
            at[n] += 1;
            current[n] = entry(block, at[n], &mut memos[n])?;
        }
        let thinned = leave_out(&next, &samples)?;
        is_whole &= thinned.is_none();
        writer.push(next.as_ref(), View::of(thinned.as_ref().unwrap_or(&samples)))?;
    }
    drop((current, memos, recent));
    held.grow_to(writer.memory())?;
    let is_empty = writer.is_empty();
    let times_forgotten = writer.finish()?;
    Ok(Merged { is_empty, is_whole, times_forgotten })
}

type Current = Option<(Labels, Vec<crate::block::ChunkRef>)>;

fn entry(block: &Block, id: u32, memo: &mut Memo) -> Result<Current, Error> {
    if id as usize >= block.series() {
        return Ok(None);
    }
    let entry = block.index.entry(id, memo)?;
    Ok(Some((entry.labels, entry.chunks)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_blocks_are_merged_and_large_old_ones_left() {
        let choose = |sizes: &[u64]| choose(sizes, Pace::Written);
        assert_eq!(choose(&[10, 10, 10]), None);
        assert_eq!(choose(&[10, 10, 10, 10]), Some(0..4));
        assert_eq!(choose(&[1000, 10, 10, 10, 10]), Some(1..5));
        assert_eq!(choose(&[60, 10, 10, 10, 10]), Some(0..5));
        assert_eq!(choose(&[10, 1000, 10, 10]), None);
    }

    #[test]
    fn two_blocks_are_enough_once_it_is_quiet_and_a_little_is_not_written_with_much() {
        let quiet = |sizes: &[u64]| choose(sizes, Pace::Quiet);
        // A small one that was written when the process ended kept those before it apart.
        assert_eq!(choose(&[68, 28, 32, 33, 14], Pace::Written), None);
        assert_eq!(quiet(&[68, 28, 32, 33, 14]), Some(0..5));
        assert_eq!(quiet(&[20, 10]), Some(0..2));
        assert_eq!(quiet(&[21, 10]), None);
        assert_eq!(quiet(&[1000, 10, 10]), Some(1..3));
        assert_eq!(quiet(&[10, 10, 1000, 10]), Some(0..2));
        assert_eq!(choose(&[21, 10], Pace::Over), Some(0..2));
        assert_eq!(choose(&[80, 10], Pace::Over), Some(0..2));
        assert_eq!(choose(&[81, 10], Pace::Over), None);
        for pace in [Pace::Written, Pace::Quiet, Pace::Over] {
            assert_eq!((choose(&[], pace), choose(&[10], pace), choose(&[0], pace)), (None, None, None));
            assert_eq!(choose(&[10; 40], pace), Some(24..40));
        }
    }

    /// Writes so many blocks of a size that is drawn, with merges after each at a pace that is drawn. Returns the blocks, and the most that a byte was written.
    fn written(
        blocks: usize,
        random: &mut fastrand::Rng,
        pace: impl Fn(&mut fastrand::Rng) -> Pace,
    ) -> (Vec<u64>, u32) {
        // Each with how often what is in it was written, at most.
        let (mut all, mut most) = (Vec::<(u64, u32)>::new(), 0);
        for _ in 0..blocks {
            all.push((random.u64(1..=4), 1));
            let pace = pace(random);
            while let Some(run) = choose(&all.iter().map(|(size, _)| *size).collect::<Vec<_>>(), pace) {
                let at = run.start;
                let merged = all.drain(run).fold((0, 0), |(sum, times), (size, own)| (sum + size, times.max(own)));
                all.insert(at, (merged.0, merged.1 + 1));
                most = most.max(merged.1 + 1);
            }
        }
        (all.into_iter().map(|(size, _)| size).collect(), most)
    }

    #[test]
    fn the_number_of_blocks_stays_logarithmic_and_how_often_a_byte_is_written_too() {
        let mut random = fastrand::Rng::with_seed(1);
        let some = |random: &mut fastrand::Rng| if random.u8(..10) == 0 { Pace::Quiet } else { Pace::Written };
        for pace in [some, |_: &mut fastrand::Rng| Pace::Written, |_: &mut fastrand::Rng| Pace::Quiet] {
            let (blocks, most) = written(10_000, &mut random, pace);
            // The logarithm of some 25,000 to the base of 1.5 is 25, and each was written once before.
            assert!(blocks.len() < 40 && (8..=26).contains(&most), "{most} {blocks:?}");
        }
        // What comes late to what is over is written with all of it once it is an eighth.
        let (blocks, most) = written(1000, &mut random, |_| Pace::Over);
        assert!(blocks.len() < 5 && most <= 66, "{most} {blocks:?}");
    }
}
