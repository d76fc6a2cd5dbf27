//! What a function over a day costs where storage is another process: bytes and samples over the wire, and CPU time of node and reader together, from all
//! samples and from what is known of chunks.
//!
//! `cargo bench -p storage --bench outlines [-- SERIES]`: so many series, 1,000 by default, half of them counters of whole numbers and half gauges of two decimals, a sample every 30 s for
//! a week, of which all but the last hour is in blocks. Each query is asked ten times: the shortest time is told, and of the rest a tenth.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/nodes/engine.rs"]
mod engine;

use std::sync::Arc;
use std::time::Instant;

use engine::{Engine, node};
use model::{Cancel, Labels, Sample, SeriesSource};
use prometheus::Registry;
use promql::{Features, Params};
use runtime::metrics::Page;
use runtime::{Routes, Shutdown, listener};
use storage::Replica;
use storage::reader::Remote;
use storage::serve;
use tsdb::{Db, Options};

const STEP_MS: i64 = 30_000;
const SAMPLES: i64 = 7 * 2_880;
const IN_HEAD: i64 = 120;
const START_MS: i64 = 20_700 * 86_400_000;
const ROUNDS: usize = 10;
const QUERIES: [&str; 7] = [
    "max_over_time(gauge[1d])",
    "max_over_time(gauge[6d])",
    "count_over_time(gauge[6d])",
    "max_over_time(x_total[6d])",
    "sum_over_time(x_total[6d])",
    "rate(x_total[6d])",
    // These depend on their order.
    "sum_over_time(gauge[6d])",
];

/// CPU time of this process up to now, in hundredths of a second.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The first field after the name is number 3; 14 and 15 are the times of the process and of the kernel for it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn fill(db: &Db, series: usize) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut states = vec![0.0; series];
    for (offset, steps) in [(1, 0..SAMPLES - IN_HEAD), (2, SAMPLES - IN_HEAD..SAMPLES)] {
        let mut batch = db.begin();
        for (n, state) in states.iter_mut().enumerate() {
            let is_counter = n % 2 == 0;
            let name = if is_counter { "x_total" } else { "gauge" };
            let labels = Labels::new(&[("__name__", name), ("instance", &format!("host-{n:05}"))]).expect("valid");
            let samples: Vec<Sample> = steps
                .clone()
                .map(|step| {
                    let more = random.f64() * 50.0;
                    *state = if is_counter { *state + more.floor() } else { (more * 100.0).round() / 100.0 };
                    Sample { t: START_MS + step * STEP_MS, v: *state }
                })
                .collect();
            batch.append(labels.as_ref(), &samples);
        }
        batch.finish(0, offset);
        if offset == 1 {
            db.flush().expect("flushes");
        }
    }
}

fn evaluate(query: &str, reads_all_samples: bool, source: &dyn SeriesSource) -> usize {
    let time = START_MS + SAMPLES * STEP_MS + 7_000;
    let params = Params {
        start_ms: time,
        end_ms: time,
        step_ms: 0,
        lookback_ms: 300_000,
        samples_max: usize::MAX,
        series_max: usize::MAX,
        cancel: Cancel::default(),
        features: Features::default(),
        default_subquery_step_ms: 60_000,
        reads_all_samples,
    };
    let expr = promql::parse(query, &params.features).expect("parses");
    match promql::evaluate(&expr, &params, source).expect("evaluates").value {
        promql::Value::Vector(all) => all.len(),
        other => panic!("{other:?}"),
    }
}

fn sent(registry: &Registry, name: &str) -> f64 {
    let family = registry.gather().into_iter().find(|family| family.name() == name).expect("registered");
    family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum()
}

fn main() {
    let number = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), Options::default()).expect("opens");
    fill(&db, number);
    let engine = Arc::new(Engine(db));
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let mut page = Page::default();
    let registry = page.add("storage");
    let (_trigger, shutdown) = Shutdown::new();
    let url = tokio.block_on(async {
        let routes = Routes::starting(&page);
        let router = serve::router(node(&engine, Replica::ALONE), None, &registry).expect("serves");
        routes.ready(&page, router, &registry).expect("ready");
        let (socket, address) = listener::bind("127.0.0.1:0").await.expect("bound");
        let own = registry.clone();
        tokio.spawn(async move { listener::serve(socket, routes, &own, shutdown).await.expect("serves") });
        format!("http://{address}")
    });
    let far = tokio.block_on(async { Remote::new(&url, None, &Registry::new()) }).expect("an address");
    println!("{number} series of {SAMPLES} samples, {IN_HEAD} of them in the head");
    println!("{:32} {:>12} {:>12} {:>9} {:>9}", "query", "samples sent", "bytes sent", "ms", "ms of CPU");
    for query in QUERIES {
        for (how, all, source) in [
            ("all samples", true, &far as &dyn SeriesSource),
            ("outlines", false, &far),
            ("in process", false, &engine.0),
        ] {
            let before = ["samples", "bytes"].map(|what| sent(&registry, &format!("weir_storage_sent_{what}_total")));
            let (used, mut shortest) = (cpu(), f64::MAX);
            for _ in 0..ROUNDS {
                let began = Instant::now();
                assert_eq!(evaluate(query, all, source), number / 2);
                shortest = shortest.min(began.elapsed().as_secs_f64());
            }
            let used = (cpu() - used) * 10 / ROUNDS as u64;
            let after = ["samples", "bytes"].map(|what| sent(&registry, &format!("weir_storage_sent_{what}_total")));
            let each = |at: usize| (after[at] - before[at]) / ROUNDS as f64;
            println!("{query:32} {:>12} {:>12} {:>9.1} {used:>9}  {how}", each(0), each(1), shortest * 1000.0);
        }
    }
}
