//! What leaving samples out saves: samples and bytes of blocks before and after, by the kind of values.
//!
//! `cargo bench -p tsdb --bench downsampling`: a day of 1,200 series of 20 targets, a sample every 15 s, up to 5 ms early or late; of all kinds in equal
//! parts, and of each alone.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use model::{Cancel, Labels, Sample};
use tsdb::{Db, DownsampleRule, Level, Options};

const SERIES: usize = 1200;
const TARGETS: usize = 20;
const SAMPLES: i64 = 5760;
const DAY: i64 = 86_400_000;
/// The beginning of a day.
const START: i64 = 20_700 * DAY;

const KINDS: [&str; 6] = [
    "counters of bytes",
    "counters of CPU seconds",
    "counters of requests",
    "random walks",
    "memory in pages",
    "states",
];

/// The next value of a kind.
fn next(kind: usize, v: f64, random: &mut fastrand::Rng) -> f64 {
    let hundredths = |v: f64| (v * 100.0).round() / 100.0;
    match kind {
        0 => v + f64::from(random.u32(..500_000)),
        1 => hundredths(v + f64::from(random.u32(..1500)) / 100.0),
        2 => v + f64::from(random.u32(..20)),
        3 => hundredths(v + f64::from(random.i32(-50..=50)) / 100.0),
        4 => (v + 4096.0 * f64::from(random.i32(-40..=40))).max(0.0),
        _ => {
            if random.u32(..2000) == 0 {
                1.0 - v
            } else {
                v
            }
        }
    }
}

/// Samples and bytes of the blocks, all of them, in windows of five minutes, and of an hour.
fn measure(kinds: &[usize]) -> [(u64, u64); 3] {
    let dir = tempfile::tempdir().expect("directory");
    let level = |age_ms, minutes: u32| Level { age_ms, resolution_ms: minutes * 60_000 };
    let rule = DownsampleRule { matchers: Vec::new(), levels: vec![level(DAY, 5), level(10 * DAY, 60)] };
    let db = Db::open(dir.path(), Options { downsample: vec![rule], ..Options::default() }).expect("opens");
    let mut random = fastrand::Rng::with_seed(5);
    let mut jitter = || (0..SAMPLES).map(|_| random.i64(-5..=5)).collect::<Vec<_>>();
    let jitter: Vec<Vec<i64>> = (0..TARGETS).map(|_| jitter()).collect();
    let mut batch = db.begin();
    for n in 0..SERIES {
        let (kind, target) = (kinds[n % kinds.len()], n % TARGETS);
        let (pod, name) = (format!("pod-{n}"), format!("m{kind}"));
        let labels = Labels::new(&[("__name__", name.as_str()), ("pod", &pod)]).expect("valid");
        let mut v = if kind == 4 { 1e9 } else { 0.0 };
        let sample = |(i, jitter): (i64, &i64)| {
            v = next(kind, v, &mut random);
            Sample { t: START + 1000 + i * DAY / SAMPLES + jitter, v }
        };
        batch.append(labels.as_ref(), &(0..).zip(&jitter[target]).map(sample).collect::<Vec<_>>());
    }
    batch.finish(0, 1);
    db.flush().expect("flushes");
    [1, 2, 12].map(|days| {
        db.expire(START + DAY + days * DAY - 1).expect("expires");
        while db.downsample(&Cancel::default()).expect("downsamples") {}
        let stats = db.stats();
        (stats.block_samples, stats.block_bytes)
    })
}

fn main() {
    println!("| | samples | bytes | in 5m: samples | bytes | in 1h: samples | bytes |\n|---|---|---|---|---|---|---|");
    let one = |name: &str, kinds: &[usize]| {
        let columns = measure(kinds).map(|(samples, bytes)| format!("{samples} | {bytes}"));
        println!("| {name} | {} |", columns.join(" | "));
    };
    one("all", &[0, 1, 2, 3, 4, 5]);
    KINDS.iter().enumerate().for_each(|(kind, name)| one(name, &[kind]));
}
