//! Downsampling: of what is old, some samples of each window stay as they came, and each says how many were left out after it and their sum.
//!
//! What stays is such that functions over whole windows yield what they would of all samples: the first and the last, the lowest and the highest, and those
//! around falls or changes where these are few, as they are of counters and of states. Averages and counts need what is left out, and get it
//! ([`model::Aggregate`]). Elsewhere five numbers a window are stored in the place of samples; here whatever reads samples goes on to, and what was measured
//! can be told from what was worked out. The price is up to four samples a window where the last alone would show a curve.
//!
//! Windows are open at their beginning and closed at their end, as ranges of the query language are: `x[5m]` at a multiple of five minutes is one window.

use std::fmt::{self, Display};
use std::ops::Range;

use model::{Aggregate, Columns, LabelsRef, Matcher, is_stale};
use roaring::RoaringBitmap;

use crate::block::Block;
use crate::chunk::aggregates::sum;
use crate::chunk::{Column, Scratch};
use crate::postings::{self, LabelIndex as _};
use crate::{Error, View};

/// Of the samples of a window that many may be such around falls, or changes, which then all stay: one more than one in so many.
const TURNS_SHARE: u64 = 10;

/// What a chunk takes beside its bytes, with its checksum and in the index.
const CHUNK_BYTES: usize = 16;

/// From which age on samples of the series that meet all matchers are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct DownsampleRule {
    /// The conditions, all of which must be met.
    pub matchers: Vec<Matcher>,
    /// From young to old, of growing resolutions of which each is a multiple of the one before.
    pub levels: Vec<Level>,
}

/// How long the windows are from an age on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Age of a block's newest sample in milliseconds.
    pub age_ms: i64,
    /// Length of the windows in milliseconds, at least 1.
    pub resolution_ms: u32,
}

/// What is to be done with samples up to some time: for each rule the length of windows, 0 where nothing is to be left out yet.
#[derive(Debug)]
pub(crate) struct Plan<'a>(Vec<(&'a [Matcher], u32)>);

impl<'a> Plan<'a> {
    /// As of a time, of samples none of which is newer than another; both in milliseconds.
    pub(crate) fn new(rules: &'a [DownsampleRule], now_ms: i64, newest_ms: i64) -> Self {
        let is_due = |level: &&Level| newest_ms < now_ms.saturating_sub(level.age_ms);
        let due = |rule: &'a DownsampleRule| {
            let level = rule.levels.iter().rev().find(is_due);
            (rule.matchers.as_slice(), level.map_or(0, |level| level.resolution_ms))
        };
        let mut all: Vec<_> = rules.iter().map(due).collect();
        // Rules matter to those behind them, which do not get the series that meet them.
        while all.last().is_some_and(|(_, resolution_ms)| *resolution_ms == 0) {
            all.pop();
        }
        Plan(all)
    }

    /// Whether there is nothing to be done.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// The longest windows.
    pub(crate) fn longest(&self) -> u32 {
        self.0.iter().map(|(_, resolution_ms)| *resolution_ms).max().unwrap_or(0)
    }

    /// The length of the windows of a series: of the first rule that it meets.
    pub(crate) fn of(&self, labels: LabelsRef<'_>) -> Option<u32> {
        let meets = |matchers: &[Matcher]| matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        let own = self.0.iter().find(|(matchers, _)| meets(matchers));
        own.map(|(_, resolution_ms)| *resolution_ms).filter(|resolution_ms| *resolution_ms > 0)
    }

    /// Whether a block has series of which something is to be left out.
    pub(crate) fn concerns(&self, block: &Block) -> Result<bool, Error> {
        let mut others = block.index.all();
        for (matchers, resolution_ms) in &self.0 {
            let own: RoaringBitmap = &others & postings::select(&block.index, matchers)?;
            others -= &own;
            if *resolution_ms > 0 && !own.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Two plans of which the texts are the same do the same.
impl Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (matchers, resolution_ms)) in self.0.iter().enumerate() {
            let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
            let resolution = model::time::format_duration_ms(i64::from(*resolution_ms));
            write!(f, "{}{{{}}}: {resolution}", if at == 0 { "" } else { ", " }, matchers.join(","))?;
        }
        Ok(())
    }
}

/// The samples of a series of which those that need not stay are left out; `None` where all stay.
///
/// Windows that are longer already stay as long. Histograms all stay, and so does all that takes no less room without some: of what seldom changes, chunks are
/// small, and they are not once the times of what stays are others than those of the scrape.
pub(crate) fn thin(samples: &Columns, resolution_ms: u32) -> Option<Columns> {
    leave_out(samples, resolution_ms).filter(|thinned| room(thinned) < room(samples))
}

/// About the bytes that floats take in a block.
fn room(samples: &Columns) -> usize {
    let (mut scratch, mut bytes) = (Scratch::default(), Vec::new());
    let times_are_shared = stays_at_ends(samples);
    let floats = View { histograms: &[], ..View::of(samples) };
    let mut chunks = 0;
    for piece in floats.pieces() {
        let column = if times_are_shared { Column::Ready(&[]) } else { Column::New };
        piece.encode_with(column, &mut scratch, &mut bytes);
        chunks += 1;
    }
    bytes.len() + chunks * CHUNK_BYTES
}

/// Whether of no window more than two samples stay, which are then mostly those at the times of all counters of a scrape.
fn stays_at_ends(samples: &Columns) -> bool {
    let ends: Vec<i64> = samples.t.iter().zip(&samples.aggregates).map(|(t, a)| a.window_end(*t)).collect();
    samples.aggregates.iter().all(|a| !a.is_of_window()) || !ends.windows(3).any(|three| three[0] == three[2])
}

fn leave_out(samples: &Columns, resolution_ms: u32) -> Option<Columns> {
    let longest = samples.aggregates.iter().map(|aggregate| aggregate.resolution_ms).max().unwrap_or(0);
    let window = Aggregate { resolution_ms: resolution_ms.max(longest), ..Aggregate::RAW };
    let mut out = Columns::default();
    let (mut stays, mut left_out) = (Vec::new(), LeftOut::default());
    let mut from = 0;
    while from < samples.len() {
        let end = window.window_end(samples.t[from]);
        let to = from + samples.t[from..].partition_point(|t| *t <= end);
        choose(samples, from..to, &mut stays);
        for at in from..to {
            let v = samples.v[at];
            if stays[at - from] {
                left_out.tell(&mut out);
                out.push_with_start(samples.t[at], v, samples.start(at));
                left_out.begin(if is_stale(v) { Aggregate::RAW } else { window });
            } else if !is_stale(v) {
                left_out.add(1, v);
            }
            left_out.add(samples.aggregate(at).count, samples.aggregate(at).sum);
        }
        from = to;
    }
    left_out.tell(&mut out);
    if out.len() == samples.len() {
        return None;
    }
    out.histograms.clone_from(&samples.histograms);
    Some(out)
}

/// What is left out since the last sample that stays.
#[derive(Debug, Default)]
struct LeftOut {
    of: Aggregate,
    values: Vec<f64>,
}

impl LeftOut {
    /// Another sample stays.
    fn begin(&mut self, of: Aggregate) {
        self.of = of;
        self.values.clear();
    }

    /// Leaves out so many, given with their sum.
    fn add(&mut self, count: u32, sum: f64) {
        if count > 0 {
            self.of.count = self.of.count.saturating_add(count);
            self.values.push(sum);
        }
    }

    /// Says so of the last sample that stays, if there is one.
    fn tell(&self, out: &mut Columns) {
        out.set_last_aggregate(Aggregate { sum: sum(&self.values), ..self.of });
    }
}

/// Which of the samples of one window stay.
fn choose(samples: &Columns, window: Range<usize>, stays: &mut Vec<bool>) {
    let (v, left_out) = (&samples.v[window.clone()], |at: usize| samples.aggregate(window.start + at).count);
    stays.clear();
    stays.resize(v.len(), false);
    // A series that ends says so; one that goes on in the same window need not.
    if let Some(last) = stays.last_mut() {
        *last = true;
    }
    let live: Vec<usize> = (0..v.len()).filter(|at| !is_stale(v[*at])).collect();
    let (Some(first), Some(last)) = (live.first(), live.last()) else { return };
    let best = |better: &dyn Fn(f64, f64) -> bool| {
        live.iter().copied().fold(*first, |best, at| if better(v[at], v[best]) || v[best].is_nan() { at } else { best })
    };
    for at in [*first, *last] {
        stays[at] = true;
    }
    for at in [best(&|v, best| v < best), best(&|v, best| v > best)] {
        // One of the ends tells as well, and then all counters of a scrape keep the same times, which are stored once.
        stays[at] |= [*first, *last].iter().all(|end| v[*end].to_bits() != v[at].to_bits());
    }
    let changes: fn(f64, f64) -> bool = |a, b| a != b && !(a.is_nan() && b.is_nan());
    let falls: fn(f64, f64) -> bool = |a, b| b < a;
    let turns = |is_one: fn(f64, f64) -> bool| live.windows(2).filter(move |pair| is_one(v[pair[0]], v[pair[1]]));
    let all: u64 = live.iter().map(|at| 1 + u64::from(left_out(*at))).sum();
    let are_few = |kind: &fn(f64, f64) -> bool| {
        // Where something was left out in between, they were many before.
        turns(*kind).all(|pair| left_out(pair[0]) == 0) && turns(*kind).count() as u64 <= all / TURNS_SHARE + 1
    };
    if let Some(kind) = [changes, falls].into_iter().find(are_few) {
        turns(kind).flatten().for_each(|at| stays[*at] = true);
    }
}

#[cfg(test)]
pub(crate) mod tests;
