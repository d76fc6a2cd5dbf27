//! Functions over windows that share most of their samples: a day of a sample each 15 seconds, at a step of a minute.

#[path = "../tests/eval/source.rs"]
#[allow(dead_code, reason = "shared with the tests, of which the bench uses a part")]
mod source;

use divan::Bencher;
use model::{Cancel, Columns, Labels};
use promql::{Features, Params};

use source::Memory;

const DAY_MS: i64 = 86_400_000;

fn main() {
    divan::main();
}

#[divan::bench(args = ["10m", "1h", "12h"])]
fn quantile_over_time(bencher: Bencher, range: &str) {
    run(bencher, &format!("quantile_over_time(0.9, m[{range}])"));
}

#[divan::bench(args = ["10m", "1h", "12h"])]
fn mad_over_time(bencher: Bencher, range: &str) {
    run(bencher, &format!("mad_over_time(m[{range}])"));
}

fn run(bencher: Bencher, query: &str) {
    let mut columns = Columns::default();
    let mut drawn = 1u64;
    for n in 0..DAY_MS / 15_000 {
        drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        columns.push(n * 15_000, (drawn >> 40) as f64);
    }
    let labels = Labels::new(&[("__name__", "m")]).expect("valid");
    let source = Memory { series: [(labels, columns)].into(), ..Memory::default() };
    let params = Params {
        start_ms: DAY_MS / 2,
        end_ms: DAY_MS,
        step_ms: 60_000,
        lookback_ms: 300_000,
        samples_max: 50_000_000,
        series_max: 10,
        cancel: Cancel::default(),
        features: Features::all(),
        default_subquery_step_ms: 60_000,
        reads_all_samples: false,
    };
    let expr = promql::parse(query, &params.features).expect("parses");
    bencher.bench(|| promql::evaluate(&expr, &params, &source).expect("is evaluated"));
}
