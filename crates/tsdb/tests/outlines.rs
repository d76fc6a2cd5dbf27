//! Functions over windows, evaluated over an engine that answers from what it knows of chunks and over the same engine that decodes them all.

mod decoded;

use std::collections::BTreeMap;

use model::{
    Buckets, Cancel, Counts, Histogram, HistogramSample, Labels, MatchOp, Matcher, Sample, Samples, SeriesSource,
    TimeRange, stale_nan,
};
use promql::{Element, Features, Params, Value};
use tsdb::{Db, DownsampleRule, Level, Options};

use decoded::Decoded;

const FUNCTIONS: [&str; 20] = [
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

const STEP: i64 = 15_000;

/// Series and time to the bits of the value.
type Bits = BTreeMap<(Labels, i64), u64>;

/// What an expression is worth from `start_ms` on, and how many samples were looked at.
fn evaluate(text: &str, times: [i64; 3], source: &dyn SeriesSource) -> (Bits, Vec<String>, u64) {
    evaluate_of(text, times, false, source)
}

/// As [`evaluate`], which takes what is known of chunks; or from all samples.
fn evaluate_of(
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

fn labels(n: usize) -> Labels {
    Labels::new(&[("__name__", "m_total"), ("n", &n.to_string())]).expect("valid")
}

/// Values of one kind, with something odd now and then.
struct Walk {
    kind: u8,
    state: f64,
    odd: u32,
}

impl Walk {
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

/// Does a hundred things to an engine: appends in and out of order, over what is there, flushes, merges, deletions.
fn fill(db: &Db, random: &mut fastrand::Rng) -> i64 {
    let odd = [0, 0, 3, 30][random.usize(..4)];
    let mut walks: Vec<Walk> = (0..5).map(|kind| Walk { kind, state: f64::from(kind), odd }).collect();
    walks.push(Walk { kind: 9, state: 2.0, odd: 0 });
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
                let n = random.usize(..6).to_string();
                db.delete(&[Matcher::equal("n", &n)], range).expect("deletes");
            }
            8 => while db.compact(&Cancel::default()).expect("merges") {},
            _ => drop(db.flush().expect("flushes")),
        }
    }
    now * STEP
}

fn append(db: &Db, walks: &mut [Walk], times: std::ops::Range<i64>, offset: &mut i64, random: &mut fastrand::Rng) {
    let mut batch = db.begin();
    let jitter = if random.bool() { 0 } else { 5 };
    let times: Vec<i64> = times.map(|i| i * STEP + random.i64(-jitter..=jitter)).collect();
    for (n, walk) in walks.iter_mut().enumerate() {
        if random.u8(..4) == 0 {
            continue;
        }
        let floats: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: walk.next(random) }).collect();
        let counts = Counts::Integer(Buckets::default());
        let histogram = Histogram { layout: Default::default(), hint: Default::default(), sum: 0.0, counts };
        let some = times.iter().filter(|_| walk.odd > 0 && random.u8(..) == 0);
        let histograms: Vec<_> =
            some.map(|t| HistogramSample { t: *t, start: 0, histogram: histogram.clone() }).collect();
        batch.append(labels(n).as_ref(), Samples { floats: &floats, starts: &[], histograms: &histograms });
    }
    *offset += 1;
    batch.finish(0, *offset);
}

/// Leaves samples out of some series at once.
fn rule(random: &mut fastrand::Rng) -> DownsampleRule {
    let resolution_ms = u32::try_from(random.i64(3..100) * STEP).expect("fits");
    let matcher = Matcher::new(MatchOp::Regex, "n", "0|2|5").expect("valid");
    DownsampleRule { matchers: vec![matcher], levels: vec![Level { age_ms: 1, resolution_ms }] }
}

#[test]
fn every_function_yields_the_same_bits_with_and_without_decoding() {
    let (mut spared, mut values, mut thinned) = (0, 0, 0);
    for seed in 0..80 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("directory");
        let retention_ms = (random.u8(..4) == 0).then(|| random.i64(500..5000) * STEP);
        let block_span_ms = random.i64(500..5000) * STEP;
        let downsample = if random.bool() { vec![rule(random)] } else { Vec::new() };
        let options = Options { block_span_ms, retention_ms, downsample, ..Options::default() };
        let db = Db::open(dir.path(), options).expect("opens");
        let end = fill(&db, random);
        db.expire(end).expect("expires");
        while db.downsample(&Cancel::default()).expect("downsamples") {}
        thinned += db.stats().downsampled.blocks;
        if end > 0 && random.bool() {
            // Late ones beside what was left out.
            let (mut walks, from) =
                ([3, 2, 3].map(|kind| Walk { kind, state: 1.0, odd: 0 }), random.i64(0..end / STEP));
            append(&db, &mut walks, from..from + random.i64(1..200), &mut (1 << 40), random);
        }
        for function in FUNCTIONS {
            let times = match random.u8(..3) {
                0 => [random.i64(0..=end), 0, 0],
                _ => [random.i64(0..=end / 2), end, end / random.i64(1..20) + 1],
            };
            let at = if random.u8(..6) == 0 { "@ end() offset 7s" } else { "" };
            let text = format!("{function}(m_total[{}ms] {at})", random.i64(1..=end.max(2) * 2));
            let (known, notes, looked_at) = evaluate(&text, times, &db);
            let (expect, all_notes, all) = evaluate(&text, times, &Decoded(&db));
            assert_eq!(known, expect, "seed {seed}: {text} {times:?}");
            assert_eq!(notes, all_notes, "seed {seed}: {text} {times:?}");
            spared += all.saturating_sub(looked_at);
            values += known.len();
        }
    }
    // The data are such that much is spared, so that something is compared.
    assert!(spared > 500_000 && values > 5_000 && thinned > 20, "{spared} {values} {thinned}");
}

#[test]
fn functions_that_read_a_selector_together_yield_the_bits_that_each_yields_alone() {
    let (mut together, mut alone, mut values) = (0, 0, 0);
    for seed in 0..12 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("directory");
        let downsample = if random.bool() { vec![rule(random)] } else { Vec::new() };
        let block_span_ms = random.i64(500..5000) * STEP;
        let db = Db::open(dir.path(), Options { block_span_ms, downsample, ..Options::default() }).expect("opens");
        let end = fill(&db, random);
        while db.downsample(&Cancel::default()).expect("downsamples") {}
        for _ in 0..10 {
            let times = match random.u8(..4) {
                0 => [random.i64(0..=end), 0, 0],
                1 => [random.i64(0..=end / 2), end, end / random.i64(1..20) + 1],
                _ => [end / 2, end, (end / random.i64(50..500)).clamp(1, 900_000)],
            };
            let at = if random.u8(..6) == 0 { "@ end() offset 7s" } else { "" };
            let window = random.i64(1..=end.max(2) * 2);
            let functions = (0..random.usize(2..5)).map(|n| {
                let function = FUNCTIONS[random.usize(..FUNCTIONS.len())];
                let range = if random.bool() { window } else { random.i64(1..=window) };
                format!("label_replace({function}(m_total[{range}ms] {at}), \"f\", \"{n}\", \"\", \"\")")
            });
            let functions: Vec<String> = functions.collect();
            let text = functions.join(" or ");
            let (found, _, looked_at) = evaluate(&text, times, &db);
            let mut expect = Bits::new();
            for function in &functions {
                expect.extend(evaluate(function, times, &Decoded(&db)).0);
                alone += evaluate(function, times, &db).2;
            }
            assert_eq!(found, expect, "seed {seed}: {text} {times:?}");
            together += looked_at;
            values += found.len();
        }
    }
    assert!(3 * together < 2 * alone && values > 50_000, "{together} of {alone}, {values}");
}

#[test]
fn a_long_window_of_whole_chunks_looks_at_some_samples_a_chunk() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options { block_span_ms: 10_000 * STEP, ..Options::default() }).expect("opens");
    let samples: Vec<Sample> = (0..5760).map(|i| Sample { t: i * STEP, v: (i * 3) as f64 }).collect();
    let mut batch = db.begin();
    batch.append(labels(0).as_ref(), &samples);
    batch.finish(0, 1);
    db.flush().expect("flushes");
    let end = 5760 * STEP;
    for (function, expect) in [
        ("max_over_time", 6),
        ("sum_over_time", 6),
        ("avg_over_time", 6),
        ("count_over_time", 12),
        ("rate", 12),
        ("changes", 5760),
        ("stddev_over_time", 5760),
    ] {
        let text = format!("{function}(m_total[2d])");
        let (values, notes, looked_at) = evaluate(&text, [end, 0, 0], &db);
        assert_eq!((values.len(), looked_at), (1, expect), "{function}");
        let all = evaluate_of(&text, [end, 0, 0], true, &db);
        assert_eq!(all, (values, notes, 5760), "{function}");
    }
    // A window that begins within the second of six chunks.
    let (_, _, looked_at) = evaluate("max_over_time(m_total[72000s])", [end, 0, 0], &db);
    assert_eq!(looked_at, 959 + 4);
}

#[test]
fn a_sum_that_depends_on_its_order_is_added_up_sample_by_sample() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    let mut values = vec![vec![1e300, 1.0 / 3.0], vec![1.0; 960], vec![-1e300]];
    let mut now = 0;
    let mut append = |values: &[f64]| {
        let mut batch = db.begin();
        for v in values {
            now += STEP;
            batch.append(labels(0).as_ref(), &[Sample { t: now, v: *v }]);
        }
        batch.finish(0, now);
        db.flush().expect("flushes");
        now
    };
    let end = values.drain(..).map(|values| append(&values)).max().unwrap_or(0);
    for function in ["sum_over_time", "avg_over_time"] {
        let of = |source: &dyn SeriesSource| evaluate(&format!("{function}(m_total[1d])"), [end, 0, 0], source);
        let ((known, ..), (expect, ..)) = (of(&db), of(&Decoded(&db)));
        assert_eq!(known, expect, "{function}");
        // What it would be if what stands for the chunk was added at once.
        let count: f64 = if function == "sum_over_time" { 1.0 } else { 963.0 };
        assert!(expect.values().all(|bits| *bits != ((1.0 / 3.0 + 960.0) / count).to_bits()), "{function}");
    }
}
