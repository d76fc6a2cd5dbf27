//! Queries over samples that say when their counting began, and over series that say what type they are, with the features switched on that look at either.

use model::Labels;

use super::draw::Draw;
use super::samples::{BEGIN_MS, LENGTH_MS};
use super::{Both, FEATURES, asked};
use crate::prometheus::prometheus;
use crate::support::{field, labels, program, varint};
use crate::weir::Launch;

/// Queries that are asked where nothing else is said.
const QUERIES: u64 = 3_000;
const METRICS: [&str; 4] = ["c_total", "g", "untyped", "b_bucket"];
/// Such a sample: time, value, start.
type Sample = (i64, f64, i64);

#[tokio::test]
async fn drawn_queries_over_start_times_are_answered_as_by_a_real_prometheus() {
    let test = "drawn_queries_over_start_times_are_answered_as_by_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let (seed, queries) = asked(QUERIES);
    let dir = tempfile::tempdir().expect("directory");
    let features = format!("{FEATURES},use-start-timestamps,type-and-unit-labels,st-storage");
    let flags = [format!("--enable-feature={features}"), "--web.enable-remote-write-receiver".to_owned()];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let theirs = prometheus(&bin, dir.path(), &dir.path().join("prometheus"), "global: {}\n", &flags).await;
    let args = ["--retention", "off", "--enable-feature", &features];
    let weir = Launch::new(&dir.path().join("weir")).args(&args).start().await;
    let body = snap::raw::Encoder::new().compress_vec(&request(&series(seed))).expect("compresses");
    for url in [weir.url("/api/v1/write"), format!("http://{}/api/v1/write", theirs.address)] {
        let request = weir.http.post(&url).header("content-encoding", "snappy");
        let request = request.header("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request");
        let answer = request.header("x-prometheus-remote-write-version", "2.0.0").body(body.clone()).send().await;
        let answer = answer.expect("answered");
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
    }
    let both = Both { weir, theirs };
    let mut draw = Draw::new(seed);
    draw.metrics = &METRICS;
    println!("{}", both.answer_the_same(&mut draw, (seed, queries)).await);
}

/// Series of which each kind is there twice for each of some instances.
fn series(seed: u64) -> Vec<(Labels, Vec<Sample>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut all = Vec::new();
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            let own = |name: &str| labels(&[("__name__", name), ("instance", instance), ("job", job)]);
            all.push((own("c_total").with("__type__", "counter").with("__unit__", "bytes"), counter(&mut random)));
            all.push((own("g").with("__type__", "gauge"), counter(&mut random)));
            all.push((own("untyped"), counter(&mut random)));
            for le in ["0.1", "1", "+Inf"] {
                all.push((own("b_bucket").with("le", le).with("__type__", "histogram"), counter(&mut random)));
            }
        }
    }
    // It has them in the order in which they come.
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// A counter that starts anew now and then: at the time of a sample, between two, or before the one before, as a sender with a wrong clock says; some samples
/// say nothing.
fn counter(random: &mut fastrand::Rng) -> Vec<Sample> {
    let (mut v, mut start) = (0.0, BEGIN_MS - random.i64(0..400_000));
    let mut all: Vec<Sample> = Vec::new();
    // Less than an hour, which is as far as a sample may be before the newest one.
    for n in 0..(LENGTH_MS - 600_000) / 15_000 {
        let t = BEGIN_MS + n * 15_000 + random.i64(0..900);
        if random.u8(..20) == 0 {
            continue;
        }
        if random.u8(..12) == 0 {
            v = if random.bool() { 0.0 } else { v };
            start = t - [0, 1, 7_000, 15_000, 40_000][random.usize(..5)];
        }
        v += f64::from(random.u8(..100)) / 4.0;
        all.push((t, v, if random.u8(..30) == 0 { 0 } else { start }));
    }
    all
}

/// An `io.prometheus.write.v2.Request`.
fn request(series: &[(Labels, Vec<Sample>)]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut all = Vec::new();
    for (labels, samples) in series {
        let (mut one, mut references) = (Vec::new(), Vec::new());
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let at = symbols.iter().position(|symbol| symbol == text).unwrap_or_else(|| {
                symbols.push(text.to_owned());
                symbols.len() - 1
            });
            varint(&mut references, at as u64);
        }
        field(&mut one, 1, &references);
        for (t, v, start) in samples {
            let mut sample = vec![0x09];
            sample.extend_from_slice(&v.to_le_bytes());
            sample.push(0x10);
            varint(&mut sample, *t as u64);
            sample.push(0x18);
            varint(&mut sample, *start as u64);
            field(&mut one, 2, &sample);
        }
        field(&mut all, 5, &one);
    }
    let mut request = Vec::new();
    symbols.iter().for_each(|symbol| field(&mut request, 4, symbol.as_bytes()));
    request.extend_from_slice(&all);
    request
}
