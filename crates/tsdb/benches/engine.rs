//! What the engine costs: appending, encoding, decoding, flushing, and bytes a sample on columns like those of real metrics.
//!
//! `cargo bench -p tsdb`. An append includes reading the labels of 100,000 series from memory, as a decoder would hand them over. With `TSDB_DIR=…`, the folder of a
//! storage that was stopped, `--bench engine` reads all that is in it instead, on one thread.

use std::io::Write as _;
use std::path::Path;

use divan::counter::ItemsCount;
use model::{Cancel, Columns, Labels, Matcher, Sample, SelectRequest, SeriesSource, TimeRange, Want};
use tsdb::chunk::{Scratch, decode, encode};
use tsdb::{Db, Head, Options};

const SERIES: usize = 100_000;
const START: i64 = 1_790_000_000_000;
const STEP: i64 = 15_000;

/// Columns like those of real metrics.
const CORPORA: [&str; 6] = ["gauge 2 decimals", "counter", "idle counter", "cpu seconds", "bytes", "full mantissa"];

fn main() {
    if let Some(dir) = std::env::var_os("TSDB_DIR") {
        return scan(Path::new(&dir));
    }
    sizes();
    scrape_sizes();
    divan::main();
}

fn corpus(name: &str, samples: usize) -> (Vec<i64>, Vec<f64>) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut state = 1000.0f64;
    let v = (0..samples).map(|_| {
        match name {
            "gauge 2 decimals" => state = ((state + random.f64() * 4.0 - 2.0) * 100.0).round() / 100.0,
            "counter" => state += f64::from(random.u32(0..500)),
            "idle counter" => state += f64::from(u8::from(random.u8(..) < 8)),
            "cpu seconds" => state = ((state + random.f64() * 15.0) * 100.0).round() / 100.0,
            "bytes" => state += 4096.0 * f64::from(random.i32(-50..=50)),
            _ => state = random.f64(),
        }
        state
    });
    let v = v.collect();
    ((0..samples as i64).map(|i| START + i * STEP).collect(), v)
}

fn sizes() {
    let mut out = std::io::stdout().lock();
    for name in CORPORA {
        let _ = write!(out, "{name:<18}");
        for samples in [16, 120, 480, 1024] {
            let (t, v) = corpus(name, samples);
            let mut bytes = Vec::new();
            encode(&t, &v, &mut Scratch::default(), &mut bytes);
            let _ = write!(out, " {samples:>5}: {:.2} B", bytes.len() as f64 / samples as f64);
        }
        let _ = writeln!(out);
    }
}

/// Series of targets that are scraped late by up to some milliseconds, in one block.
struct Scrapes {
    targets: usize,
    /// Of each target.
    series: usize,
    samples: usize,
    jitter_ms: i64,
}

const SCRAPES: Scrapes = Scrapes { targets: 20, series: 50, samples: 5760, jitter_ms: 5 };

impl Scrapes {
    fn block(&self, dir: &Path) -> Db {
        let db = Db::open(dir, Options { block_span_ms: 1000 * 86_400_000, ..Options::default() }).expect("opens");
        let mut random = fastrand::Rng::with_seed(11);
        let mut batch = db.begin();
        for target in 0..self.targets {
            let late = |i| i * STEP + random.i64(-self.jitter_ms..=self.jitter_ms);
            let times: Vec<i64> = (0..self.samples as i64).map(late).map(|t| START + t).collect();
            for n in 0..self.series {
                let name = format!("metric_{n:03}");
                let instance = format!("10.1.0.{target}:9090");
                let labels = Labels::new(&[("__name__", name.as_str()), ("instance", &instance)]).expect("valid");
                let (_, v) = corpus(CORPORA[n % CORPORA.len()], self.samples);
                let samples: Vec<Sample> = times.iter().zip(v).map(|(t, v)| Sample { t: *t, v }).collect();
                batch.append(labels.as_ref(), &samples);
            }
        }
        batch.finish(0, 1);
        db.flush().expect("flushes");
        db
    }
}

fn scrape_sizes() {
    let mut out = std::io::stdout().lock();
    for jitter_ms in [0, SCRAPES.jitter_ms] {
        let dir = tempfile::tempdir().expect("directory");
        let stats = Scrapes { jitter_ms, ..SCRAPES }.block(dir.path()).stats();
        let bytes = stats.block_bytes as f64 / stats.block_samples as f64;
        let _ = writeln!(out, "block of scrapes, up to {jitter_ms} ms early or late: {bytes:.3} B a sample");
    }
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn read_1000_series_of_20_targets(bencher: divan::Bencher) {
    let dir = tempfile::tempdir().expect("directory");
    let db = SCRAPES.block(dir.path());
    bencher
        .counter(ItemsCount::new(SCRAPES.targets * SCRAPES.series * SCRAPES.samples))
        .bench_local(|| read_all(&db, ""));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn read_1_series_of_20_targets(bencher: divan::Bencher) {
    let dir = tempfile::tempdir().expect("directory");
    let db = SCRAPES.block(dir.path());
    bencher.counter(ItemsCount::new(SCRAPES.targets * SCRAPES.samples)).bench_local(|| read_all(&db, "metric_041"));
}

#[divan::bench(args = CORPORA)]
fn encode_120(bencher: divan::Bencher, name: &str) {
    let (t, v) = corpus(name, 120);
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    bencher.counter(ItemsCount::new(120usize)).bench_local(|| {
        out.clear();
        encode(&t, &v, &mut scratch, &mut out);
    });
}

#[divan::bench(args = CORPORA)]
fn decode_1024(bencher: divan::Bencher, name: &str) {
    let (t, v) = corpus(name, 1024);
    let mut bytes = Vec::new();
    encode(&t, &v, &mut Scratch::default(), &mut bytes);
    let mut out = Columns::default();
    bencher.counter(ItemsCount::new(1024usize)).bench_local(|| {
        out.clear();
        decode(&bytes, &mut out)
    });
}

fn labels() -> Vec<Labels> {
    let one = |n: usize| {
        let pairs = [
            ("__name__", format!("http_requests_{}_total", n % 50)),
            ("job", "checkout".to_owned()),
            ("namespace", format!("team-{}", n % 7)),
            ("pod", format!("checkout-7d9f8b6c5-{:05}", n / 50)),
            ("instance", format!("10.1.{}.{}:9090", n / 50 / 256, n / 50 % 256)),
            ("method", "GET".to_owned()),
            ("code", "200".to_owned()),
        ];
        Labels::new(&pairs).expect("valid")
    };
    (0..SERIES).map(one).collect()
}

fn value(series: usize, round: i64) -> f64 {
    match series % 4 {
        0 => 1.0,
        1 => (round * (series as i64 % 100)) as f64,
        2 => ((series as i64 * 7919 + round * 104_729) % 10_000) as f64 / 100.0,
        _ => (round * 12_345 + (series as i64 * 31 + round * 17) % 1000) as f64 / 1000.0,
    }
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn append_100k_series_16_samples_each(bencher: divan::Bencher) {
    let (labels, head, mut round) = (labels(), Head::default(), 0);
    let mut append = || {
        for _ in 0..16 {
            round += 1;
            let mut appender = head.appender();
            for (n, labels) in labels.iter().enumerate() {
                appender.append(labels.as_ref(), &[Sample { t: START + round * STEP, v: value(n, round) }]);
            }
        }
    };
    append();
    bencher.counter(ItemsCount::new(SERIES * 16)).bench_local(append);
}

fn filled(dir: &Path) -> Db {
    let db = Db::open(dir, Options::default()).expect("opens");
    let labels = labels();
    for round in 0..120 {
        let mut batch = db.begin();
        for (n, labels) in labels.iter().enumerate() {
            batch.append(labels.as_ref(), &[Sample { t: START + round * STEP, v: value(n, round) }]);
        }
        batch.finish(0, round);
    }
    db
}

#[divan::bench(sample_count = 2, sample_size = 1)]
fn flush_100k_series_120_samples(bencher: divan::Bencher) {
    let dir = tempfile::tempdir().expect("directory");
    bencher.counter(ItemsCount::new(SERIES * 120)).with_inputs(|| filled(dir.path())).bench_local_values(|db| {
        db.flush().expect("flushes");
        db
    });
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn read_all_of_a_block(bencher: divan::Bencher) {
    let dir = tempfile::tempdir().expect("directory");
    let db = filled(dir.path());
    db.flush().expect("flushes");
    bencher.counter(ItemsCount::new(SERIES * 120)).bench_local(|| read_all(&db, ""));
}

/// Decodes all floats of all series of a folder, and tells what a sample takes of CPU time.
fn scan(dir: &Path) {
    let db = Db::open(dir, Options::default()).expect("opens");
    let request = all_series(Vec::new());
    for _ in 0..5 {
        let (mut samples, mut out) = (0, Columns::default());
        let series = db.select(&request).expect("selects").series;
        let before = cpu();
        for series in &series {
            out.clear();
            series.data.read(TimeRange::ALL, &mut out).expect("reads");
            samples += out.len();
        }
        let ns = 1e7 * (cpu() - before) as f64 / samples as f64;
        let mut stdout = std::io::stdout().lock();
        let (series, rate) = (series.len(), 1e3 / ns);
        let _ = writeln!(stdout, "{samples} samples of {series} series: {ns:.2} ns of CPU each, {rate:.0} M/s");
    }
}

/// CPU time of this process up to now, in hundredths of a second.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The first field after the name is number 3; 14 and 15 are the times of the process and of the kernel for it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

fn all_series(matchers: Vec<Matcher>) -> SelectRequest {
    SelectRequest {
        matchers,
        range: TimeRange::ALL,
        want: Want::Samples,
        series_max: usize::MAX,
        cancel: Cancel::default(),
    }
}

/// Reads the series of a metric, or all.
fn read_all(db: &Db, metric: &str) -> Columns {
    let matchers = if metric.is_empty() { Vec::new() } else { vec![Matcher::equal("__name__", metric)] };
    let request = all_series(matchers);
    let mut out = Columns::default();
    for series in db.select(&request).expect("selects").series {
        out.clear();
        series.data.read(TimeRange::ALL, &mut out).expect("reads");
    }
    out
}
