//! What queries over long windows cost where blocks know of their chunks what is asked, and where every sample is decoded.
//!
//! `cargo bench -p tsdb --bench windows`: a day of 1,200 series, a sample every 30 s, merged into one block.

#[path = "../tests/decoded/mod.rs"]
mod decoded;

use std::path::Path;

use decoded::Decoded;
use divan::counter::ItemsCount;
use model::{Cancel, Labels, Sample, SeriesSource};
use promql::{Features, Params};
use tsdb::{Db, Options};

const SERIES: usize = 1200;
const SAMPLES: i64 = 2880;
const DAY: i64 = 86_400_000;
/// The beginning of a day.
const START: i64 = 20_700 * DAY;

const QUERIES: [&str; 5] = [
    "max by (region) (max_over_time(load_total[24h]))",
    "sum by (region) (count_over_time(load_total[24h]))",
    "sum by (region) (rate(load_total[24h]))",
    "sum by (region) (sum_over_time(load_total[24h]))",
    "max by (region) (max_over_time(load_total[23h30m]))",
];

fn main() {
    divan::main();
}

fn filled(dir: &Path) -> Db {
    let db = Db::open(dir, Options::default()).expect("opens");
    let mut random = fastrand::Rng::with_seed(5);
    let mut batch = db.begin();
    for n in 0..SERIES {
        let (region, pod) = (format!("r{}", n % 12), format!("pod-{n}"));
        let labels = Labels::new(&[("__name__", "load_total"), ("region", &region), ("pod", &pod)]).expect("valid");
        let mut state = 0.0;
        let sample = |i: i64| {
            state += f64::from(random.u32(0..500));
            Sample { t: START + i * DAY / SAMPLES, v: state }
        };
        batch.append(labels.as_ref(), &(0..SAMPLES).map(sample).collect::<Vec<_>>());
    }
    batch.finish(0, 1);
    db.flush().expect("flushes");
    db
}

fn evaluate(text: &str, source: &dyn SeriesSource) -> promql::Evaluation {
    let params = Params {
        start_ms: START + DAY - 1,
        end_ms: 0,
        step_ms: 0,
        lookback_ms: 300_000,
        samples_max: usize::MAX,
        series_max: usize::MAX,
        cancel: Cancel::default(),
        features: Features::default(),
        default_subquery_step_ms: 60_000,
        reads_all_samples: false,
    };
    let expr = promql::parse(text, &Features::default()).expect("parses");
    promql::evaluate(&expr, &params, source).expect("evaluates")
}

#[divan::bench(args = QUERIES, sample_count = 20, sample_size = 1)]
fn known(bencher: divan::Bencher, query: &str) {
    let dir = tempfile::tempdir().expect("directory");
    let db = filled(dir.path());
    bencher.counter(ItemsCount::new(SERIES * SAMPLES as usize)).bench_local(|| evaluate(query, &db));
}

#[divan::bench(args = QUERIES, sample_count = 20, sample_size = 1)]
fn decoded(bencher: divan::Bencher, query: &str) {
    let dir = tempfile::tempdir().expect("directory");
    let db = filled(dir.path());
    bencher.counter(ItemsCount::new(SERIES * SAMPLES as usize)).bench_local(|| evaluate(query, &Decoded(&db)));
}
