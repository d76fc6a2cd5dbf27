//! What cold queries ask of object storage: requests, bytes and time, on a real S3 server, with the local disk emptied.
//!
//! `S3_BIN=… cargo bench -p weir --bench objects` writes four days of 4,000 series in a block a day, removes the directory of storage, and starts the program
//! (`WEIR_BIN`, else the one that cargo built) anew for each query, so that nothing of a block is in memory but what opening it reads. Each query is asked
//! twice, and once more of a server that is [`DELAY`] away. It asserts nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its figures")]

#[path = "../tests/e2e/one_process.rs"]
#[expect(dead_code, reason = "shared with the tests, of which the bench uses a part")]
mod one_process;
#[path = "../tests/e2e/process.rs"]
#[allow(dead_code, reason = "shared with the tests, of which the bench uses a part")]
mod process;
#[path = "../tests/e2e/support.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, of which the bench uses a part")]
mod support;
#[path = "../tests/e2e/weir.rs"]
#[expect(dead_code, reason = "shared with the tests, of which the bench uses a part")]
mod weir;

use std::path::Path;
use std::time::{Duration, Instant};

use model::{Labels, Sample};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use one_process as topology;
use support::s3::{self, S3};
use support::{install_tls, labels, program};
use weir::{Launch, Weir};

/// How much later each request reaches the server that is far away: what object storage takes before its first byte.
const DELAY: Duration = Duration::from_millis(20);
const DAY_MS: i64 = 86_400_000;
/// Begin of a day.
const T0: i64 = 20_717 * DAY_MS;
const DAYS: i64 = 4;
const STEP_MS: i64 = 60_000;
const PARTS: u32 = 40;
const INSTANCES: u32 = 100;

/// What is asked: what it is called, its text, and the hours before the end of the data over which it is asked in steps of one sixtieth, or at the end alone.
const QUERIES: [(&str, &str, Option<i64>); 7] = [
    ("one series, an hour", "bench_07{instance=\"i-042\"}", Some(1)),
    ("one series, four days", "bench_07{instance=\"i-042\"}", Some(96)),
    ("rate of the 100 series of a name, an hour", "sum(rate(bench_07[5m]))", Some(1)),
    ("rate of the 100 series of a name, four days", "sum(rate(bench_07[1h]))", Some(96)),
    ("rate of 40 series of as many names, an hour", "sum(rate({instance=\"i-042\"}[5m]))", Some(1)),
    ("rate of 40 series of as many names, four days", "sum(rate({instance=\"i-042\"}[1h]))", Some(96)),
    ("sum of all 4,000 series, four days at once", "sum(sum_over_time({job=\"bench\"}[4d]))", None),
];

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run; measuring is for `cargo bench`.
    if !std::env::args().any(|a| a == "--bench") {
        return;
    }
    let Some(bin) = program("weir_bench", "S3_BIN") else { return };
    install_tls();
    let server = tokio::task::spawn_blocking(|| S3::shared(bin)).await.expect("starts");
    let far = far_away(&server.url).await;
    let dir = tempfile::tempdir().expect("directory");
    let weir = start(dir.path(), &server.url).await;
    write(&weir).await;
    // The end writes a block a day, uploads them, and removes them here.
    weir.stop();
    println!("| query | requests | KiB | ms | ms, {} ms away | ms, asked again |", DELAY.as_millis());
    println!("|---|---|---|---|---|---|");
    for (name, text, hours) in QUERIES {
        let near = cold(dir.path(), &server.url, text, hours).await;
        let away = cold(dir.path(), &far, text, hours).await;
        println!(
            "| {name} | {} | {:.0} | {:.0} | {:.0} | {:.1} |",
            near.requests,
            near.bytes / 1024.0,
            near.ms,
            away.ms,
            near.again_ms
        );
        eprintln!("{name}: {} requests and {:.0} KiB to open the blocks", near.opening, near.opening_bytes / 1024.0);
    }
}

/// What a query took.
struct Took {
    /// Requests that opening the blocks took, before the query, and bytes.
    opening: f64,
    opening_bytes: f64,
    requests: f64,
    bytes: f64,
    ms: f64,
    again_ms: f64,
}

/// Asks once of a process that has nothing of the blocks yet, and once more.
async fn cold(dir: &Path, url: &str, text: &str, hours: Option<i64>) -> Took {
    std::fs::remove_dir_all(dir.join("storage")).expect("removed");
    let weir = start(dir, url).await;
    let (opening, opening_bytes) = asked(&weir).await;
    let ms = ask(&weir, text, hours).await;
    let (requests, bytes) = asked(&weir).await;
    let again_ms = ask(&weir, text, hours).await;
    weir.stop();
    let (requests, bytes) = (requests - opening, bytes - opening_bytes);
    Took { opening, opening_bytes, requests, bytes, ms, again_ms }
}

async fn start(data: &Path, url: &str) -> Weir {
    let address = format!("s3://{}/bench", s3::BUCKET);
    let flags = ["--retention", "off", "--storage-objects", &address, "--storage-objects-endpoint", url];
    let launch = Launch::new(data).args(&flags).args(&["--storage-cache-bytes", "0"]);
    launch.env("AWS_ACCESS_KEY_ID", s3::KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET).start().await
}

/// Writes all series, a day of ten of them a request.
async fn write(weir: &Weir) {
    let mut rng = fastrand::Rng::with_seed(7);
    let all: Vec<Labels> = (0..PARTS * INSTANCES).map(series).collect();
    // In hundredths.
    let mut values = vec![100_000u32; all.len()];
    for day in 0..DAYS {
        for (series, values) in all.chunks(10).zip(values.chunks_mut(10)) {
            let samples = series.iter().zip(values).map(|(labels, v)| {
                let times = (T0 + day * DAY_MS..T0 + (day + 1) * DAY_MS).step_by(STEP_MS as usize);
                let mut next = |t| {
                    *v += rng.u32(0..1000);
                    Sample { t, v: f64::from(*v) / 100.0 }
                };
                (labels.clone(), times.map(&mut next).collect())
            });
            assert_eq!(weir.remote_write(&samples.collect::<Vec<_>>()).await.expect("answered"), 204);
        }
    }
}

fn series(n: u32) -> Labels {
    let (part, instance) = (format!("{:02}", n / INSTANCES), format!("i-{:03}", n % INSTANCES));
    labels(&[("__name__", &format!("bench_{part}")), ("instance", &instance), ("job", "bench"), ("part", &part)])
}

/// Asks without the cache of results; the milliseconds until the whole answer was there.
#[expect(clippy::disallowed_methods, reason = "the time is what is measured")]
async fn ask(weir: &Weir, text: &str, hours: Option<i64>) -> f64 {
    let end = (T0 + DAYS * DAY_MS - STEP_MS) / 1000;
    let (start, step) = hours.map_or((end, 60), |hours| (end - hours * 3600 + 60, hours * 60));
    let (start, step, end) = (start.to_string(), step.to_string(), end.to_string());
    let form = [("query", text), ("start", &start), ("end", &end), ("step", &step), ("nocache", "1")];
    let began = Instant::now();
    let (status, answer) = weir.post_form("/api/v1/query_range", &form).await;
    let ms = began.elapsed().as_secs_f64() * 1e3;
    assert!(status == 200 && answer["data"]["result"][0].is_object(), "{text}: {status} {answer}");
    ms
}

/// Requests for ranges of blocks and bytes that they brought, since the process started.
async fn asked(weir: &Weir) -> (f64, f64) {
    let page = weir.metrics().await;
    let sum = |name: &str| -> f64 {
        let values = page.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        values.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
    };
    let requests = sum("weir_storage_objects_requests_total{operation=\"get_range\"");
    (requests, sum("weir_storage_objects_received_bytes_total"))
}

/// An address at which the server answers [`DELAY`] later.
async fn far_away(server: &str) -> String {
    let server = server.trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.expect("accepts");
            let server = TcpStream::connect(&server).await.expect("connects");
            tokio::spawn(async move {
                let ((mut asks, mut hears), (mut answers, mut takes)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut answers, &mut hears).await });
                let mut request = vec![0; 64 << 10];
                while let Ok(read @ 1..) = asks.read(&mut request).await {
                    tokio::time::sleep(DELAY).await;
                    if takes.write_all(&request[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    url
}
