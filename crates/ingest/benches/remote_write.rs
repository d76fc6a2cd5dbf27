//! Remote write from the request's body to the records that the log would get, on one core.
//!
//! The log takes records and throws them away, so that what is measured is ingest: body, snappy, protobuf, labels, hash, payload.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use queue::{Bounds, BoxFuture, Error, Log, Record};
use tower::ServiceExt;

fn main() {
    divan::main();
}

struct Nowhere;

impl Log for Nowhere {
    fn partitions(&self) -> u32 {
        4
    }

    fn id(&self) -> Option<u128> {
        None
    }

    fn append(&self, _: u32, payload: Bytes, _: i64) -> BoxFuture<'_, Result<i64, Error>> {
        divan::black_box(payload);
        Box::pin(async { Ok(0) })
    }

    fn fetch(&self, _: u32, _: i64, _: usize, _: Duration) -> BoxFuture<'_, Result<Vec<Record>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn bounds(&self, _: u32) -> BoxFuture<'_, Result<Bounds, Error>> {
        Box::pin(async { Ok(Bounds { start: 0, end: 0 }) })
    }

    fn known_end(&self, _: u32) -> i64 {
        0
    }

    fn commit(&self, _: &str, _: u32, _: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn committed(&self, _: &str, _: u32) -> BoxFuture<'_, Result<Option<i64>, Error>> {
        Box::pin(async { Ok(None) })
    }
}

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: ingest::Args,
}

fn field(number: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
}

/// Series number `n` of a scrape of many pods.
fn labels(n: usize) -> [(&'static str, String); 10] {
    [
        ("__name__", format!("container_network_transmit_{}_total", n % 40)),
        ("cluster", "eu-west-1-production".to_owned()),
        ("container", "checkout-service".to_owned()),
        ("endpoint", "https-metrics".to_owned()),
        ("instance", format!("10.12.{}.{}:8443", n / 40 % 7, n / 40)),
        ("interface", format!("eth{}", n % 4)),
        ("job", "kubelet".to_owned()),
        ("namespace", format!("team-{}", n / 400)),
        ("node", format!("ip-10-12-0-{}.internal", n / 200)),
        ("pod", format!("checkout-service-7f9c6d5b4-{:05x}", n / 40 * 7919)),
    ]
}

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn sample(n: usize) -> Vec<u8> {
    let mut sample = vec![1 << 3 | 1];
    sample.extend_from_slice(&(n as f64 * 17.0).to_le_bytes());
    sample.push(2 << 3);
    varint(1_700_000_000_000, &mut sample);
    sample
}

/// Series with 10 labels and one sample each, as remote write 1.0.
fn write_request(series: usize) -> Bytes {
    let mut message = Vec::new();
    for n in 0..series {
        let mut one = Vec::new();
        for (name, value) in labels(n) {
            let mut label = Vec::new();
            field(1, name.as_bytes(), &mut label);
            field(2, value.as_bytes(), &mut label);
            field(1, &label, &mut one);
        }
        field(2, &sample(n), &mut one);
        field(1, &one, &mut message);
    }
    Bytes::from(snap::raw::Encoder::new().compress_vec(&message).expect("compresses"))
}

/// The same as remote write 2.0, with a start of each sample.
fn request(series: usize) -> Bytes {
    let (mut symbols, mut all) = (vec![String::new()], Vec::new());
    let mut known = HashMap::new();
    for n in 0..series {
        let mut refs = Vec::new();
        for text in labels(n).into_iter().flat_map(|(name, value)| [name.to_owned(), value]) {
            let next = symbols.len() as u64;
            let number = *known.entry(text.clone()).or_insert(next);
            if number == next {
                symbols.push(text);
            }
            varint(number, &mut refs);
        }
        let (mut one, mut sample) = (Vec::new(), sample(n));
        sample.push(3 << 3);
        varint(1_699_000_000_000, &mut sample);
        field(1, &refs, &mut one);
        field(2, &sample, &mut one);
        field(5, &one, &mut all);
    }
    let mut message = Vec::new();
    symbols.iter().for_each(|symbol| field(4, symbol.as_bytes(), &mut message));
    message.extend(all);
    Bytes::from(snap::raw::Encoder::new().compress_vec(&message).expect("compresses"))
}

fn run(bencher: Bencher<'_, '_>, path: &str, content_type: &str, body: Bytes, samples: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (_trigger, shutdown) = runtime::Shutdown::new();
    let args = <Command as clap::Parser>::parse_from(["bench"]).args;
    let deps = ingest::Deps { log: Arc::new(Nowhere) };
    let registry = prometheus::Registry::new();
    let started = ingest::start(args, deps, &registry, shutdown);
    let router = runtime.block_on(started).expect("starts").component.router;
    bencher.counter(ItemsCount::new(samples)).bench_local(|| {
        let request = Request::post(path).header("content-type", content_type);
        let request = request.body(Body::from(body.clone())).expect("a request");
        let status = runtime.block_on(router.clone().oneshot(request)).expect("infallible").status();
        assert!(status.is_success(), "{status}");
    });
}

#[divan::bench]
fn remote_write_2000_series(bencher: Bencher<'_, '_>) {
    run(bencher, "/api/v1/write", "application/x-protobuf", write_request(2000), 2000);
}

#[divan::bench]
fn remote_write_2_of_2000_series(bencher: Bencher<'_, '_>) {
    let content_type = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    run(bencher, "/api/v1/write", content_type, request(2000), 2000);
}

#[divan::bench]
fn text_2000_lines(bencher: Bencher<'_, '_>) {
    let line = |n| format!("http_requests_total{{job=\"api\",instance=\"10.0.0.{}:80\",code=\"200\"}} {n}\n", n % 250);
    run(bencher, "/api/v1/import/prometheus", "text/plain", (0..2000).map(line).collect::<String>().into(), 2000);
}

#[divan::bench]
fn json_one_sample(bencher: Bencher<'_, '_>) {
    run(bencher, "/metrics", "application/json", Bytes::from_static(br#"{"name":"cpu_usage","value":85}"#), 1);
}
