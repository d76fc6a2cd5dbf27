//! What few series have beside floats that come in order: starts, native histograms, samples that came late.

use model::{Columns, HistogramSample, Sample, TimeRange};

use super::buffer::decode_all;
use crate::Error;
use crate::chunk::{self, Scratch};
use crate::columns::{One, sorted_last_wins, sorted_last_wins_of_any};

/// What a buffer has beside its chunks and its tail.
#[derive(Debug, Clone, Default)]
pub(super) struct Side {
    /// A start for each float of the tail, or none at all.
    starts: Vec<i64>,
    /// Histograms that came since the last chunk was sealed, a chunk each: as they come they would take ten times that.
    open: Vec<u8>,
    histograms: usize,
    pub(super) late: Late,
}

/// Samples that were not later than the last one when they came, in the order in which they came.
#[derive(Debug, Clone)]
pub(super) struct Late {
    /// Floats without a start.
    floats: Vec<Sample>,
    /// The others, a chunk each.
    others: Vec<u8>,
    /// How many floats came before each of the others.
    before: Vec<u32>,
    range: TimeRange,
}

const ENCODED_HERE: &str = "a chunk in memory is what was encoded just before";

impl Side {
    pub(super) fn heap_bytes(&self) -> usize {
        let late = &self.late;
        let floats = late.floats.capacity() * size_of::<Sample>();
        let others = late.others.capacity() + late.before.capacity() * size_of::<u32>();
        size_of::<Side>() + self.starts.capacity() * size_of::<i64>() + self.open.capacity() + floats + others
    }

    /// Whether no sample is here. Starts are of samples that are elsewhere.
    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty() && self.open.is_empty() && self.late.is_empty()
    }

    /// Number of histograms that are not sealed.
    pub(super) fn histograms(&self) -> usize {
        self.histograms
    }

    /// Adds the start of the float that comes to a tail of so many.
    pub(super) fn push_start(&mut self, tail: usize, start: i64) {
        if start != 0 || !self.starts.is_empty() {
            self.starts.resize(tail, 0);
            self.starts.push(start);
        }
    }

    /// The start of a float of the tail.
    pub(super) fn start(&self, at: usize) -> i64 {
        self.starts.get(at).copied().unwrap_or(0)
    }

    /// Forgets the starts of the first floats of the tail.
    pub(super) fn forget_starts(&mut self, floats: usize) {
        self.starts.drain(..floats.min(self.starts.len()));
    }

    pub(super) fn push_histogram(&mut self, sample: &HistogramSample, scratch: &mut Scratch) {
        chunk::Piece::Histograms(std::slice::from_ref(sample)).encode(scratch, &mut self.open);
        self.histograms += 1;
    }

    /// Moves what is not sealed to `out`: the starts of the floats in it, and histograms.
    pub(super) fn take_open(&mut self, out: &mut Columns) {
        out.starts.extend_from_slice(&self.starts);
        self.starts.clear();
        decode_all(&self.open, out).expect(ENCODED_HERE);
        self.open.clear();
        self.histograms = 0;
    }

    /// Appends the histograms that are not sealed.
    pub(super) fn read_open(&self, out: &mut Columns) -> Result<(), Error> {
        decode_all(&self.open, out)
    }

    /// Forgets histograms that are not sealed, and returns how many; the time of the first one left is in `first`.
    pub(super) fn truncate_open(&mut self, start_ms: i64, first: &mut Option<i64>) -> usize {
        let mut all = Columns::default();
        decode_all(&self.open, &mut all).expect(ENCODED_HERE);
        let gone = all.histograms.partition_point(|sample| sample.t < start_ms);
        *first = all.histograms.get(gone).map(|sample| sample.t);
        if gone > 0 {
            let mut scratch = Scratch::default();
            self.open.clear();
            self.histograms = 0;
            all.histograms[gone..].iter().for_each(|sample| self.push_histogram(sample, &mut scratch));
        }
        gone
    }

    /// A copy of what is needed to read the range.
    pub(super) fn within(&self, range: TimeRange) -> Side {
        Side { late: self.late.within(range), ..self.clone_open() }
    }

    fn clone_open(&self) -> Side {
        let (starts, open) = (self.starts.clone(), self.open.clone());
        Side { starts, open, histograms: self.histograms, late: Late::default() }
    }
}

impl Default for Late {
    fn default() -> Self {
        let range = TimeRange { start_ms: i64::MAX, end_ms: i64::MIN };
        Late { floats: Vec::new(), others: Vec::new(), before: Vec::new(), range }
    }
}

impl Late {
    #[cold]
    pub(super) fn push(&mut self, sample: Sample) {
        self.extend_range(sample.t);
        self.floats.push(sample);
    }

    pub(super) fn push_with_start(&mut self, sample: Sample, start: i64, scratch: &mut Scratch) {
        let piece = chunk::Piece::Floats(&[sample.t], &[sample.v], &[start]);
        self.push_other(sample.t, piece, scratch);
    }

    pub(super) fn push_histogram(&mut self, sample: &HistogramSample, scratch: &mut Scratch) {
        self.push_other(sample.t, chunk::Piece::Histograms(std::slice::from_ref(sample)), scratch);
    }

    fn push_other(&mut self, t: i64, piece: chunk::Piece<'_>, scratch: &mut Scratch) {
        self.extend_range(t);
        piece.encode(scratch, &mut self.others);
        self.before.push(self.floats.len() as u32);
    }

    fn extend_range(&mut self, t: i64) {
        self.range.start_ms = self.range.start_ms.min(t);
        self.range.end_ms = self.range.end_ms.max(t);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.floats.is_empty() && self.before.is_empty()
    }

    pub(super) fn overlaps(&self, range: TimeRange) -> bool {
        !self.is_empty() && self.range.overlaps(&range)
    }

    /// The samples in the range, ascending, each time once, the one that came last.
    pub(super) fn sorted(&self, range: TimeRange) -> Result<Columns, Error> {
        if self.before.is_empty() {
            return Ok(sorted_last_wins(self.floats.iter().filter(|s| range.contains(s.t)).copied().collect()));
        }
        let mut all = self.in_order()?;
        all.retain(|one| range.contains(one.t()));
        Ok(sorted_last_wins_of_any(all))
    }

    /// All samples in the order in which they came.
    fn in_order(&self) -> Result<Vec<One>, Error> {
        let mut all = Vec::with_capacity(self.floats.len() + self.before.len());
        let (mut next, mut at, mut columns) = (0, 0, Columns::default());
        for before in &self.before {
            let floats = &self.floats[next..*before as usize];
            all.extend(floats.iter().map(|sample| One::Float(*sample, 0)));
            next = *before as usize;
            columns.clear();
            let size = chunk::decode(&self.others[at..], &mut columns);
            at += size.map_err(|reason| Error::corrupt("a chunk in memory", at, reason))?;
            match columns.histograms.pop() {
                Some(sample) => all.push(One::Histogram(sample)),
                None => all.push(One::Float(Sample { t: columns.t[0], v: columns.v[0] }, columns.start(0))),
            }
        }
        all.extend(self.floats[next..].iter().map(|sample| One::Float(*sample, 0)));
        Ok(all)
    }

    /// A copy of what is needed to read the range.
    fn within(&self, range: TimeRange) -> Late {
        if !self.before.is_empty() {
            return self.clone();
        }
        let floats = self.floats.iter().filter(|s| range.contains(s.t)).copied().collect();
        Late { floats, range: self.range, ..Late::default() }
    }

    /// Forgets samples before a time, and returns how many.
    pub(super) fn truncate_before(&mut self, start_ms: i64) -> usize {
        if self.range.start_ms >= start_ms {
            return 0;
        }
        let all = self.in_order().expect(ENCODED_HERE);
        let (before, mut scratch) = (all.len(), Scratch::default());
        *self = Late::default();
        for one in all.into_iter().filter(|one| one.t() >= start_ms) {
            match one {
                One::Float(sample, 0) => self.push(sample),
                One::Float(sample, start) => self.push_with_start(sample, start, &mut scratch),
                One::Histogram(sample) => self.push_histogram(&sample, &mut scratch),
            }
        }
        before - self.floats.len() - self.before.len()
    }
}
