//! Cuts the samples of a series into pieces that become a chunk each.

use model::{Aggregate, Columns, HistogramSample, TimeRange};

use super::{Column, Facts, SAMPLES_MAX, Scratch, aggregates, encode_floats, histogram, starts};
use crate::View;

/// Samples of one kind that become one chunk.
#[derive(Debug, Clone, Copy)]
pub enum Piece<'a> {
    /// Floats, with a start for each or none at all.
    Floats(&'a [i64], &'a [f64], &'a [i64]),
    /// Floats that may stand for others, all of windows of one length.
    Aggregates(View<'a>),
    /// Histograms that are laid out alike.
    Histograms(&'a [HistogramSample]),
}

impl Piece<'_> {
    /// Number of samples, at least one.
    pub fn samples(&self) -> usize {
        match self {
            Piece::Floats(t, ..) | Piece::Aggregates(View { t, .. }) => t.len(),
            Piece::Histograms(histograms) => histograms.len(),
        }
    }

    /// First and last time.
    pub fn range(&self) -> TimeRange {
        match self {
            Piece::Floats(t, ..) | Piece::Aggregates(View { t, .. }) => {
                TimeRange { start_ms: t[0], end_ms: t[t.len() - 1] }
            }
            Piece::Histograms(h) => TimeRange { start_ms: h[0].t, end_ms: h[h.len() - 1].t },
        }
    }

    /// Its times; those that do not lie in a column are put into `column`.
    pub(crate) fn times<'a>(&'a self, column: &'a mut Vec<i64>) -> &'a [i64] {
        match self {
            Piece::Floats(t, ..) | Piece::Aggregates(View { t, .. }) => t,
            Piece::Histograms(histograms) => {
                column.clear();
                column.extend(histograms.iter().map(|sample| sample.t));
                column
            }
        }
    }

    /// What is known of its values, if it is one of floats.
    pub(crate) fn facts(&self) -> Option<Facts> {
        match self {
            Piece::Floats(_, v, _) => Facts::of(v),
            // Of what is left out they would tell nothing.
            Piece::Aggregates(_) | Piece::Histograms(_) => None,
        }
    }

    /// Appends its chunk to `out`.
    pub fn encode(&self, scratch: &mut Scratch, out: &mut Vec<u8>) {
        self.encode_with(Column::New, scratch, out);
    }

    /// As [`Piece::encode`], with this in the place of its times.
    pub(crate) fn encode_with(&self, times: Column<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) {
        match self {
            Piece::Floats(t, v, starts) if starts.iter().any(|start| *start != 0) => {
                starts::encode((t, v, starts), times, scratch, out);
            }
            Piece::Floats(t, v, _) => encode_floats(t, v, times, scratch, out),
            Piece::Aggregates(floats) => aggregates::encode(*floats, times, scratch, out),
            Piece::Histograms(histograms) => histogram::encode(histograms, times, scratch, out),
        }
    }
}

/// Goes through the pieces in the order of time.
#[derive(Debug, Clone)]
pub struct Pieces<'a>(View<'a>);

/// The pieces of a series, of which each is a chunk.
pub fn pieces(columns: &Columns) -> Pieces<'_> {
    View::of(columns).pieces()
}

impl<'a> View<'a> {
    pub(crate) fn pieces(self) -> Pieces<'a> {
        Pieces(self)
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let View { t, histograms, aggregates, .. } = self.0;
        let run = match (t.first(), histograms.first()) {
            (None, None) => return None,
            (Some(_), None) => t.len(),
            (Some(_), Some(histogram)) => t.partition_point(|t| *t <= histogram.t),
            (None, Some(_)) => 0,
        };
        if run > 0 {
            let run = match aggregates.first() {
                Some(first) => {
                    aggregates[..run].iter().take_while(|other| other.resolution_ms == first.resolution_ms).count()
                }
                None => run,
            };
            // Chunks of like size: a short one at the end would cost its headers for little.
            let size = run.div_ceil(run.div_ceil(SAMPLES_MAX));
            let (own, rest) = self.0.split_floats(size);
            self.0 = rest;
            if aggregates.first().is_some_and(Aggregate::is_of_window) {
                return Some(Piece::Aggregates(own));
            }
            return Some(Piece::Floats(own.t, own.v, own.starts));
        }
        let before = |sample: &&HistogramSample| t.first().is_none_or(|t| sample.t < *t);
        let first = &histograms[0].histogram;
        let alike = histograms.iter().take_while(before).take_while(|sample| sample.histogram.is_like(first));
        let (own, rest) = histograms.split_at(alike.take(histogram::samples_max(first)).count());
        self.0.histograms = rest;
        Some(Piece::Histograms(own))
    }
}
