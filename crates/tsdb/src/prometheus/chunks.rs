//! The samples of a series as chunks of a Prometheus: for its blocks, and for those who read chunks over the network.

use model::{Columns, Counts, HistogramSample, TimeRange};

use super::{FLOAT_HISTOGRAM, HISTOGRAM, XOR, histogram, xor};

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
/// most 120 samples. Start times are not in them, nor what a sample stands for. Ends with the first error of `each`.
pub fn encode<E>(samples: &Columns, each: &mut dyn FnMut(Chunk<'_>) -> Result<(), E>) -> Result<(), E> {
    let (mut t, mut v, mut histograms) = (&samples.t[..], &samples.v[..], &samples.histograms[..]);
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
                xor::encode(own_t, own_v, &mut data);
                (Encoding::Xor, own_t[0], own_t[length - 1])
            }
            (float, Some(first)) => {
                let length = run(histograms, float.copied());
                let (own, later) = histograms.split_at(length);
                histograms = later;
                histogram::encode(own, &mut data);
                let float = matches!(first.histogram.counts, Counts::Float(_));
                let encoding = if float { Encoding::FloatHistogram } else { Encoding::Histogram };
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
