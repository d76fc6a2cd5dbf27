//! Samples of every kind, an hour of them.

use std::path::Path;

use model::histogram::CUSTOM_BUCKETS_SCHEMA;
use model::{Buckets, Counts, Histogram, HistogramSample, Layout, ResetHint, Sample, Samples, Span, stale_nan};
use tsdb::{Db, Options};

/// The first sample.
pub(super) const BEGIN_MS: i64 = 1_700_000_000_000;
/// From the first to the last.
pub(super) const LENGTH_MS: i64 = 3_600_000;
const STEP_MS: i64 = 15_000;

/// Writes them to a directory of the engine.
pub(super) fn write(dir: &Path, seed: u64) {
    std::fs::create_dir_all(dir).expect("created");
    let db = Db::open(dir, Options::default()).expect("opens");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut batch = db.begin();
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            let labels =
                |name: &str| crate::support::labels(&[("__name__", name), ("instance", instance), ("job", job)]);
            for name in ["c_total", "g", "i", "mixed"] {
                batch.append(labels(name).as_ref(), &floats(name, &mut random));
            }
            for le in ["0.1", "0.5", "1", "5", "+Inf"] {
                let labels = labels("b_bucket").with("le", le);
                batch.append(labels.as_ref(), &counter(&mut random, 40.0));
            }
            for name in ["h", "hg", "n", "mixed"] {
                let histograms = histograms(name, &mut random);
                batch.append(labels(name).as_ref(), Samples { histograms: &histograms, ..Samples::default() });
            }
            let info = labels("target_info").with("zone", if instance == "0" { "a" } else { "b" });
            batch.append(info.as_ref(), &times(&mut random).map(|t| Sample { t, v: 1.0 }).collect::<Vec<_>>());
            // One version, and then another.
            for (version, half) in [("1", 0..LENGTH_MS / 2), ("2", LENGTH_MS / 2..LENGTH_MS)] {
                let info = labels("build_info").with("version", version);
                let times = times(&mut random).filter(|t| half.contains(&(t - BEGIN_MS)));
                batch.append(info.as_ref(), &times.map(|t| Sample { t, v: 1.0 }).collect::<Vec<_>>());
            }
        }
    }
    batch.finish(0, 0);
    db.flush().expect("flushes");
}

/// Times of scrapes, some of which are late and some of which fail.
fn times(random: &mut fastrand::Rng) -> impl Iterator<Item = i64> {
    let mut own = random.fork();
    (0..LENGTH_MS / STEP_MS).filter_map(move |n| {
        let late = if own.u8(..4) == 0 { own.i64(0..900) } else { 0 };
        (own.u8(..20) != 0).then_some(BEGIN_MS + n * STEP_MS + late)
    })
}

fn counter(random: &mut fastrand::Rng, most: f64) -> Vec<Sample> {
    let mut v = 0.0;
    let mut own = random.fork();
    let one = |t| {
        v = if own.u8(..60) == 0 { 0.0 } else { v + (own.f64() * most).round() };
        Sample { t, v }
    };
    times(random).map(one).collect()
}

fn floats(name: &str, random: &mut fastrand::Rng) -> Vec<Sample> {
    if name == "c_total" {
        return counter(random, 1000.0);
    }
    let mut own = random.fork();
    let one = |(n, t): (usize, i64)| {
        let v = match (name, own.u8(..40)) {
            ("g", 0) => f64::NAN,
            ("g", 1) => f64::INFINITY,
            ("g", 2) => stale_nan(),
            ("g", _) => (own.f64() * 2000.0 - 1000.0).round() / 8.0,
            ("i", _) => f64::from(own.u8(..5)),
            // The histograms of this series are between.
            _ => n as f64,
        };
        Sample { t, v }
    };
    let part = if name == "mixed" { 3 } else { 1 };
    times(random).enumerate().filter(|(n, _)| n / 40 % part == 0).map(one).collect()
}

fn histograms(name: &str, random: &mut fastrand::Rng) -> Vec<HistogramSample> {
    let schema = match name {
        "n" => CUSTOM_BUCKETS_SCHEMA,
        _ => random.i32(-1..4),
    };
    let mut own = random.fork();
    let custom: Vec<f64> = if name == "n" { [0.5, 1.0, 2.5, 10.0][random.usize(..2)..].to_vec() } else { Vec::new() };
    let buckets = if name == "n" { custom.len() + 1 } else { 6 };
    let layout = Layout {
        schema,
        zero_threshold: if name == "n" { 0.0 } else { [0.001, 0.25][random.usize(..2)] },
        positive: vec![Span { offset: if name == "n" { 0 } else { random.i32(0..4) }, length: buckets as u32 }],
        negative: if name == "n" { Vec::new() } else { vec![Span { offset: 0, length: 2 }] },
        custom_values: custom,
    };
    let layout = std::sync::Arc::new(layout);
    let negative = if name == "n" { 0 } else { 2 };
    let mut counts = vec![0u64; buckets + negative + 1];
    let one = |(_, t): (usize, i64)| {
        if name == "hg" || own.u8(..50) == 0 {
            counts.fill(0);
        }
        counts.iter_mut().for_each(|count| *count += own.u64(..9));
        if name == "n" {
            counts[0] = 0;
        }
        let (zero, rest) = (counts[0], &counts[1..]);
        let parts = Buckets {
            count: counts.iter().sum(),
            zero,
            positive: rest[..buckets].to_vec(),
            negative: rest[buckets..].to_vec(),
        };
        let float = |counts: &[u64]| counts.iter().map(|count| *count as f64 / 4.0).collect::<Vec<f64>>();
        let counts = match name {
            "hg" => Counts::Float(Buckets {
                count: parts.count as f64 / 4.0,
                zero: parts.zero as f64 / 4.0,
                positive: float(&parts.positive),
                negative: float(&parts.negative),
            }),
            _ => Counts::Integer(parts),
        };
        let hint = if name == "hg" { ResetHint::Gauge } else { ResetHint::Unknown };
        let sum = (own.f64() * 1000.0).round() / 4.0;
        HistogramSample { t, start: 0, histogram: Histogram { layout: layout.clone(), hint, sum, counts } }
    };
    let part = if name == "mixed" { 1 } else { 0 };
    times(random).enumerate().filter(|(n, _)| part == 0 || n / 40 % 3 == part).map(one).collect()
}

/// The labels that grouping and matching are drawn from.
pub(super) const LABELS: [&str; 2] = ["job", "instance"];

/// Some labels, as they are written.
pub(super) fn some(random: &mut fastrand::Rng) -> String {
    let all: Vec<&str> = LABELS.iter().copied().filter(|_| random.bool()).collect();
    all.join(", ")
}
