//! The samples of a series as chunks of a Prometheus: for its blocks, and for those who read chunks over the network.

use model::{Columns, Counts, HistogramSample, TimeRange};

use super::{FLOAT_HISTOGRAM, FLOAT_HISTOGRAM_STARTS, HISTOGRAM, HISTOGRAM_STARTS, XOR, XOR2, histogram, xor, xor2};

/// How a chunk is encoded. The numbers are those of Prometheus, in its files and in its protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encoding {
    /// Floats.
    Xor = XOR,
    /// Histograms with whole counts.
    Histogram = HISTOGRAM,
    /// Histograms with float counts.
    FloatHistogram = FLOAT_HISTOGRAM,
    /// Floats with start times.
    Xor2 = XOR2,
    /// Histograms with whole counts and start times.
    HistogramStarts = HISTOGRAM_STARTS,
    /// Histograms with float counts and start times.
    FloatHistogramStarts = FLOAT_HISTOGRAM_STARTS,
}

/// What becomes of the start times of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTimes {
    /// A chunk that has any is of a later encoding, which older readers do not know.
    Written,
    /// Every reader knows the encodings.
    LeftOut,
}

/// A chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// How it is encoded.
    pub encoding: Encoding,
    /// Times of its first and its last sample.
    pub range: TimeRange,
    /// Its data, without a length or a checksum.
    pub data: &'a [u8],
}

/// Calls `each` with the samples as chunks, in the order of their times: each of floats or of histograms, and of these of such as go on. A chunk has at
/// most 120 samples. What a sample stands for is not in them. Ends with the first error of `each`.
pub fn encode<E>(
    samples: &Columns,
    starts: StartTimes,
    each: &mut dyn FnMut(Chunk<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let is_written = starts == StartTimes::Written;
    let (mut t, mut v, mut histograms) = (&samples.t[..], &samples.v[..], &samples.histograms[..]);
    let mut starts = if is_written { &samples.starts[..] } else { &[] };
    let mut data = Vec::new();
    loop {
        data.clear();
        let (encoding, start_ms, end_ms) = match (t.first(), histograms.first()) {
            (Some(first), next) if next.is_none_or(|next| *first < next.t) => {
                let before = next.map_or(t.len(), |next| t.partition_point(|t| *t < next.t));
                let length = before.min(xor::SAMPLES_MAX);
                let (own_t, later_t) = t.split_at(length);
                let (own_v, later_v) = v.split_at(length);
                (t, v) = (later_t, later_v);
                let (own_starts, later_starts) = starts.split_at(length.min(starts.len()));
                starts = later_starts;
                let encoding = if own_starts.iter().any(|start| *start != 0) {
                    xor2::encode(own_t, own_v, own_starts, &mut data);
                    Encoding::Xor2
                } else {
                    xor::encode(own_t, own_v, &mut data);
                    Encoding::Xor
                };
                (encoding, own_t[0], own_t[length - 1])
            }
            (float, Some(first)) => {
                let length = run(histograms, float.copied());
                let (own, later) = histograms.split_at(length);
                histograms = later;
                let float = matches!(first.histogram.counts, Counts::Float(_));
                let kind = histogram::Kind { float, starts: is_written && own.iter().any(|sample| sample.start != 0) };
                histogram::encode(own, kind, &mut data);
                let encoding = match (kind.float, kind.starts) {
                    (false, false) => Encoding::Histogram,
                    (true, false) => Encoding::FloatHistogram,
                    (false, true) => Encoding::HistogramStarts,
                    (true, true) => Encoding::FloatHistogramStarts,
                };
                (encoding, first.t, own[length - 1].t)
            }
            _ => return Ok(()),
        };
        each(Chunk { encoding, range: TimeRange { start_ms, end_ms }, data: &data })?;
    }
}

/// How many histograms, at least one, make a chunk before a float comes.
fn run(histograms: &[HistogramSample], float: Option<i64>) -> usize {
    let goes_on = |pair: &[HistogramSample]| {
        float.is_none_or(|float| pair[1].t < float) && histogram::continues(&pair[0].histogram, &pair[1].histogram)
    };
    1 + histograms.windows(2).take(histogram::SAMPLES_MAX - 1).take_while(|pair| goes_on(pair)).count()
}
