//! Functions over windows, evaluated over an engine that answers from what it knows of chunks and over the same engine that decodes them all.

mod decoded;
mod walks;

use model::{Cancel, Sample, SeriesSource};
use tsdb::{Db, Options};

use decoded::Decoded;
use walks::{Bits, FUNCTIONS, STEP, Walk, append, evaluate, evaluate_of, fill, labels, rule};

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
        let end = fill(&db, 0, random);
        db.expire(end).expect("expires");
        while db.downsample(&Cancel::default()).expect("downsamples") {}
        thinned += db.stats().downsampled.blocks;
        if end > 0 && random.bool() {
            // Late ones beside what was left out.
            let (mut walks, from) =
                ([(0, 3), (1, 2), (2, 3)].map(|(n, kind)| Walk::new(n, kind, 1.0, 0)), random.i64(0..end / STEP));
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
        let end = fill(&db, 0, random);
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
