//! What tests share: reading all floats of an engine, and histograms.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{
    Buckets, Cancel, Columns, Counts, Histogram, HistogramSample, Labels, Layout, Matcher, ResetHint, SelectRequest,
    SeriesSource, Span, TimeRange, Want, stale_nan,
};

use crate::Db;

/// Series and time to the bits of the value.
pub(crate) type Floats = BTreeMap<(Labels, i64), u64>;

/// The series that meet the matchers; there must be no warning.
fn select(db: &Db, matchers: &[Matcher]) -> Vec<model::Series> {
    let request = SelectRequest {
        matchers: matchers.to_vec(),
        range: TimeRange::ALL,
        want: Want::Samples,
        series_max: usize::MAX,
        cancel: Cancel::default(),
    };
    let set = db.select(&request).expect("selects");
    assert_eq!(set.warnings, [""; 0]);
    set.series
}

/// All floats of the series that meet the matchers; there must be no warning.
pub(crate) fn floats(db: &Db, matchers: &[Matcher]) -> Floats {
    let mut out = Floats::new();
    for series in select(db, matchers) {
        let mut samples = Columns::default();
        series.data.read(TimeRange::ALL, &mut samples).expect("reads");
        out.extend(samples.t.iter().zip(&samples.v).map(|(t, v)| ((series.labels.clone(), *t), v.to_bits())));
    }
    out
}

/// All samples of all series; there must be no warning.
pub(crate) fn everything(db: &Db) -> BTreeMap<Labels, Columns> {
    let read = |series: model::Series| {
        let mut samples = Columns::default();
        series.data.read(TimeRange::ALL, &mut samples).expect("reads");
        (series.labels, samples)
    };
    select(db, &[]).into_iter().map(read).collect()
}

/// A layout and a kind of counts, of which histograms are drawn that are alike.
pub(crate) struct Family {
    layout: Arc<Layout>,
    float: bool,
    last: Vec<u64>,
}

impl Family {
    pub(crate) fn new(random: &mut fastrand::Rng) -> Self {
        let mut spans = |n: usize| {
            let one = |_| Span { offset: random.i32(0..4), length: random.u32(0..4) };
            (0..n).map(one).collect::<Vec<Span>>()
        };
        let (mut positive, mut negative) = (spans(3), spans(2));
        let custom = random.u8(..4) == 0;
        if custom {
            negative.clear();
        } else if let Some(first) = positive.first_mut() {
            first.offset = random.i32(-900..900);
        }
        let layout = Layout {
            schema: if custom { model::histogram::CUSTOM_BUCKETS_SCHEMA } else { random.i32(-4..=8) },
            zero_threshold: if custom { 0.0 } else { random.f64() },
            positive,
            negative,
            custom_values: (0..if custom { 24 } else { 0 }).map(f64::from).collect(),
        };
        Family { layout: Arc::new(layout), float: random.bool(), last: Vec::new() }
    }

    /// The next histogram, whose buckets have grown a little, or begun again.
    pub(crate) fn next(&mut self, random: &mut fastrand::Rng) -> Histogram {
        let (positive, negative) = self.layout.buckets();
        self.last.resize(positive + negative, 0);
        let reset = random.u8(..16) == 0;
        for count in &mut self.last {
            *count = if reset { 0 } else { count.saturating_add(random.u64(..20)) };
        }
        let zero = if self.layout.custom_values.is_empty() { random.u64(..9) } else { 0 };
        let sum = match random.u8(..8) {
            0 => f64::NAN,
            1 => stale_nan(),
            _ => random.f64() * 1e6,
        };
        let count = zero + self.last.iter().sum::<u64>() + if sum.is_nan() { random.u64(..5) } else { 0 };
        let (first, second) = self.last.split_at(positive);
        let part = |counts: &[u64]| counts.iter().map(|count| *count as f64 / 7.0).collect();
        let counts = match self.float {
            true => Counts::Float(Buckets {
                count: count as f64 / 7.0,
                zero: zero as f64,
                positive: part(first),
                negative: part(second),
            }),
            false => Counts::Integer(Buckets { count, zero, positive: first.to_vec(), negative: second.to_vec() }),
        };
        let hint = if random.u8(..4) == 0 { ResetHint::ALL[random.usize(..4)] } else { ResetHint::Unknown };
        let histogram = Histogram { layout: self.layout.clone(), hint, sum, counts };
        assert_eq!(histogram.validate(), Ok(()));
        histogram
    }

    pub(crate) fn sample(&mut self, t: i64, random: &mut fastrand::Rng) -> HistogramSample {
        let start = if random.bool() { 0 } else { random.i64(1..3) };
        HistogramSample { t, start, histogram: self.next(random) }
    }
}
