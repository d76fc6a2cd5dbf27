//! Which blocks to merge, and the merge.

use std::sync::Arc;

use model::{Cancel, Columns, Held, Labels, Mark, TimeRange};

use crate::Error;
use crate::block::{Block, Memo, Writer};
use crate::columns::{View, merge_newer};
use crate::deletes::{self, Cuts};
use crate::retention::Floors;

/// Fewer blocks than this are not worth a merge.
const MERGE_MIN: usize = 4;
/// More are not merged at once, so that a merge has an end.
const MERGE_MAX: usize = 16;
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

/// Chooses among blocks of one span, given by their sizes from old to new: the newest ones, as long as each is no larger than twice
/// those after it together. So sizes grow geometrically with age and every sample is written a logarithmic number of times.
pub(crate) fn choose(sizes: &[u64]) -> Option<std::ops::Range<usize>> {
    let mut sum = 0u64;
    let mut from = sizes.len();
    for (at, size) in sizes.iter().enumerate().rev() {
        let fits = from == sizes.len() || *size <= sum.saturating_mul(2);
        if !fits || sizes.len() - at > MERGE_MAX {
            break;
        }
        sum += size;
        from = at;
    }
    (sizes.len() - from >= MERGE_MIN).then_some(from..sizes.len())
}

/// Given a series with its samples, those with some left out; `None` where all stay.
pub(crate) type LeaveOut<'a> = dyn FnMut(&Labels, &Columns) -> Result<Option<Columns>, Error> + 'a;

/// Writes one block with all that these hold, but for what is expired, deleted or to be left out; of samples at the same time that of the later block stays.
///
/// Series by series, so that memory is that of the largest series and of the index of what is written, which is held of `held`: where there is too little
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
    let (mut current, mut memos) = (Vec::new(), Vec::new());
    for (block, _) in sources {
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
            held.grow_to(writer.memory() + samples.memory() + piece.memory())?;
        }
        series += 1;
        samples.clear();
        let keep = TimeRange { start_ms: floors.of(next.as_ref()), end_ms: i64::MAX };
        for (n, (block, cuts)) in sources.iter().enumerate() {
            let Some((_, chunks)) = current[n].take_if(|(labels, _)| *labels == next) else { continue };
            let cuts = cuts.of(at[n]);
            is_whole &= cuts.is_empty() && chunks.first().is_none_or(|first| keep.contains(first.range.start_ms));
            piece.clear();
            block.read(&chunks, keep, &mut piece)?;
            deletes::apply(&cuts, Mark::default(), &mut piece);
            merge_newer(&mut samples, Mark::default(), &piece);
            at[n] += 1;
            current[n] = entry(block, at[n], &mut memos[n])?;
        }
        let thinned = leave_out(&next, &samples)?;
        is_whole &= thinned.is_none();
        writer.push(&next, View::of(thinned.as_ref().unwrap_or(&samples)))?;
    }
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
    use super::choose;

    #[test]
    fn similar_blocks_are_merged_and_large_old_ones_left() {
        assert_eq!(choose(&[10, 10, 10]), None);
        assert_eq!(choose(&[10, 10, 10, 10]), Some(0..4));
        assert_eq!(choose(&[1000, 10, 10, 10, 10]), Some(1..5));
        assert_eq!(choose(&[60, 10, 10, 10, 10]), Some(0..5));
        assert_eq!(choose(&[10, 1000, 10, 10]), None);
    }

    #[test]
    fn the_number_of_blocks_stays_logarithmic() {
        let mut sizes: Vec<u64> = Vec::new();
        for _ in 0..10_000 {
            sizes.push(1);
            while let Some(run) = choose(&sizes) {
                let sum = sizes.drain(run).sum();
                sizes.push(sum);
            }
            assert!(sizes.len() < 40, "{sizes:?}");
        }
    }
}
