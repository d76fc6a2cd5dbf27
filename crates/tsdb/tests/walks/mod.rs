//! Engines with random series, and what functions over windows make of them.

use std::collections::BTreeMap;

use model::{
    Buckets, Cancel, Counts, Histogram, HistogramSample, Labels, MatchOp, Matcher, Sample, Samples, SeriesSource,
    TimeRange, stale_nan,
};
use promql::{Element, Features, Params, Value};
use tsdb::{Db, DownsampleRule, Level};

pub(crate) const FUNCTIONS: [&str; 20] = [
    "max_over_time",
    "min_over_time",
    "count_over_time",
    "present_over_time",
    "absent_over_time",
    "last_over_time",
    "first_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "sum_over_time",
    "avg_over_time",
    "rate",
    "increase",
    "delta",
    "resets",
    "changes",
    // These ask for all samples.
    "irate",
    "deriv",
    "stddev_over_time",
    "ts_of_max_over_time",
];

pub(crate) const STEP: i64 = 15_000;

/// Series and time to the bits of the value.
pub(crate) type Bits = BTreeMap<(Labels, i64), u64>;

/// What an expression is worth from `start_ms` on, and how many samples were looked at.
pub(crate) fn evaluate(text: &str, times: [i64; 3], source: &dyn SeriesSource) -> (Bits, Vec<String>, u64) {
    evaluate_of(text, times, false, source)
}

/// As [`evaluate`], which takes what is known of chunks; or from all samples.
pub(crate) fn evaluate_of(
    text: &str,
    times: [i64; 3],
    reads_all_samples: bool,
    source: &dyn SeriesSource,
) -> (Bits, Vec<String>, u64) {
    let [start_ms, end_ms, step_ms] = times;
    let params = Params {
        start_ms,
        end_ms,
        step_ms,
        lookback_ms: 300_000,
        samples_max: usize::MAX,
        series_max: usize::MAX,
        cancel: Cancel::default(),
        // Where it is looked at when counting began, all samples are read.
        features: Features { use_start_timestamps: false, ..Features::all() },
        default_subquery_step_ms: 60_000,
        reads_all_samples,
    };
    let expr = promql::parse(text, &Features::all()).expect("parses");
    let evaluation = promql::evaluate(&expr, &params, source).expect("evaluates");
    let mut bits = Bits::new();
    match evaluation.value {
        Value::Vector(all) => bits.extend(all.into_iter().map(|(labels, point)| match point.v {
            Element::Float(v) => ((labels, point.t), v.to_bits()),
            Element::Histogram(histogram) => panic!("{labels} {histogram}"),
        })),
        Value::Matrix(all) => {
            for (labels, columns) in all {
                let values = columns.t.iter().zip(&columns.v);
                bits.extend(values.map(|(t, v)| ((labels.clone(), *t), v.to_bits())));
            }
        }
        other => panic!("{other:?}"),
    }
    let notes = evaluation.warnings.into_iter().chain(evaluation.infos).collect();
    (bits, notes, evaluation.stats.samples_read)
}

pub(crate) fn labels(n: usize) -> Labels {
    Labels::new(&[("__name__", "m_total"), ("n", &n.to_string())]).expect("valid")
}

/// Values of one kind, with something odd now and then.
pub(crate) struct Walk {
    /// Of the series.
    n: usize,
    kind: u8,
    state: f64,
    odd: u32,
}

impl Walk {
    pub(crate) fn new(n: usize, kind: u8, state: f64, odd: u32) -> Self {
        Walk { n, kind, state, odd }
    }

    fn next(&mut self, random: &mut fastrand::Rng) -> f64 {
        if random.u32(..10_000) < self.odd {
            return [stale_nan(), f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, 1e300][random.usize(..7)];
        }
        let step = f64::from(random.u32(0..50));
        match self.kind {
            // A counter, whole or not, that is reset now and then.
            0 | 1 if random.u32(..2000) == 0 => self.state = 0.0,
            0 => self.state += step,
            1 => self.state = ((self.state + step / 3.0) * 100.0).round() / 100.0,
            2 => self.state = step - 25.0,
            3 => self.state = step,
            4 => self.state = random.f64() - 0.5,
            _ => {}
        }
        self.state
    }
}

/// Does a hundred things to an engine, to six series from a number on: appends in and out of order, over what is there, flushes, merges, deletions.
pub(crate) fn fill(db: &Db, first: usize, random: &mut fastrand::Rng) -> i64 {
    let odd = [0, 0, 3, 30][random.usize(..4)];
    let walk = |kind: u8| Walk::new(first + usize::from(kind), kind, f64::from(kind), odd);
    let mut walks: Vec<Walk> = (0..5).map(walk).collect();
    walks.push(Walk::new(first + 5, 9, 2.0, 0));
    let (mut now, mut offset) = (0, 0);
    for _ in 0..random.usize(4..16) {
        match random.u8(..12) {
            0..=5 => {
                let n = random.i64(1..1200);
                append(db, &mut walks, now..now + n, &mut offset, random);
                now += n;
            }
            6 if now > 0 => {
                let from = random.i64(0..now);
                append(db, &mut walks, from..from + random.i64(1..100), &mut offset, random);
            }
            7 if now > 0 => {
                let start_ms = random.i64(0..now) * STEP;
                let range = TimeRange { start_ms, end_ms: start_ms + random.i64(0..50) * STEP };
                let n = (first + random.usize(..6)).to_string();
                db.delete(&[Matcher::equal("n", &n)], range).expect("deletes");
            }
            8 => while db.compact(&Cancel::default()).expect("merges") {},
            _ => drop(db.flush().expect("flushes")),
        }
    }
    now * STEP
}

pub(crate) fn append(
    db: &Db,
    walks: &mut [Walk],
    times: std::ops::Range<i64>,
    offset: &mut i64,
    random: &mut fastrand::Rng,
) {
    let mut batch = db.begin();
    let jitter = if random.bool() { 0 } else { 5 };
    let times: Vec<i64> = times.map(|i| i * STEP + random.i64(-jitter..=jitter)).collect();
    for walk in walks.iter_mut() {
        if random.u8(..4) == 0 {
            continue;
        }
        let floats: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: walk.next(random) }).collect();
        let counts = Counts::Integer(Buckets::default());
        let histogram = Histogram { layout: Default::default(), hint: Default::default(), sum: 0.0, counts };
        let some = times.iter().filter(|_| walk.odd > 0 && random.u8(..) == 0);
        let histograms: Vec<_> =
            some.map(|t| HistogramSample { t: *t, start: 0, histogram: histogram.clone() }).collect();
        batch.append(labels(walk.n).as_ref(), Samples { floats: &floats, starts: &[], histograms: &histograms });
    }
    *offset += 1;
    batch.finish(0, *offset);
}

/// Leaves samples out of some series at once.
pub(crate) fn rule(random: &mut fastrand::Rng) -> DownsampleRule {
    let resolution_ms = u32::try_from(random.i64(3..100) * STEP).expect("fits");
    let matcher = Matcher::new(MatchOp::Regex, "n", "0|2|5").expect("valid");
    DownsampleRule { matchers: vec![matcher], levels: vec![Level { age_ms: 1, resolution_ms }] }
}
