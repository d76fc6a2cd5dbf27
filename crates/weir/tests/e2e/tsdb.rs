//! `weir tsdb`: what is stored, in and out of the formats of others, damaged and repaired, copied and laid out again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use model::{
    Buckets, Cancel, Columns, Counts, Histogram, HistogramSample, Labels, Layout, ResetHint, Sample, Samples,
    SelectRequest, SeriesSource, Span, TimeRange, Want,
};
use serde_json::{Value, json};

use crate::exemplars::{exemplar, send};
use crate::prometheus::{Prometheus, ask, prometheus, sorted};
use crate::support::{labels, program, run, until, weir_bin};
use crate::weir::{Launch, Weir};

/// A time that is long ago, at the begin of a day.
const BEGIN_MS: i64 = 1_780_012_800_000;
const KEEP: &[&str] = &["--retention", "off"];
const ADMIN: &str = "/api/v1/admin/tsdb/snapshot";

fn weir(args: &[&str], data: &Path) -> Output {
    let (command, rest) = args.split_first().expect("a command");
    let mut process = Command::new(weir_bin());
    process.args(["tsdb", command]).args(rest).arg("--data").arg(data).stdin(Stdio::null());
    process.output().expect("runs")
}

/// The standard output of a command that ends well.
fn good(args: &[&str], data: &Path) -> String {
    let output = weir(args, data);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Standard output and standard error of a command that does not.
fn bad(args: &[&str], data: &Path) -> (String, String) {
    let output = weir(args, data);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let (out, error) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(1), "{args:?}: {out}{error}");
    (out, error)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Ten series over five hours, one with characters that have to be escaped.
fn series() -> Vec<(Labels, Vec<Sample>)> {
    let samples = |n: i64| (0..300).map(move |i| (BEGIN_MS + i * 60_000 + n, (i * n) as f64 / 4.0));
    (0..10)
        .map(|n| {
            let job = if n == 0 { "a \"b\" \\ ü".to_owned() } else { n.to_string() };
            let samples = samples(n).map(|(t, v)| Sample { t, v });
            (labels(&[("__name__", "books"), ("job", &job), ("zone", "z")]), samples.collect())
        })
        .collect()
}

/// What `promtool tsdb dump` should print, in some order.
fn lines(series: &[(Labels, Vec<Sample>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (labels, samples) in series {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        lines.extend(samples.iter().map(|s| format!("{{{}}} {} {}", pairs.join(", "), s.v, s.t)));
    }
    lines.sort();
    lines
}

fn dump(promtool: &Path, dir: &Path) -> Vec<String> {
    let text = run(Command::new(promtool).args(["tsdb", "dump"]).arg(dir));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A Weir that has these series in its blocks and was stopped.
async fn stopped_with(data: &Path, series: &[(Labels, Vec<Sample>)]) {
    let weir = Launch::new(data).args(KEEP).start().await;
    for one in series {
        assert_eq!(weir.remote_write(std::slice::from_ref(one)).await.expect("answered"), 204);
    }
    weir.stop();
}

fn client() -> reqwest::Client {
    crate::support::install_tls();
    reqwest::Client::new()
}

/// SIGTERM, and its end.
fn stop(mut prometheus: Prometheus) {
    run(Command::new("kill").args(["-TERM", &prometheus.child.id().to_string()]));
    assert!(prometheus.child.wait().expect("waited for").success());
}

async fn admin(http: &reqwest::Client, prometheus: &Prometheus, what: &str) -> Value {
    let url = format!("http://{}/api/v1/admin/tsdb/{what}", prometheus.address);
    let answer = http.post(url).send().await.expect("answered");
    let (status, text) = (answer.status(), answer.text().await.expect("text"));
    assert!(status.is_success(), "{what}: {status}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

#[tokio::test]
async fn promtool_reads_what_is_exported_and_weir_what_promtool_writes() {
    let test = "promtool_reads_what_is_exported_and_weir_what_promtool_writes";
    let Some(promtool) = program(test, "PROMTOOL_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name);
    let series = series();
    stopped_with(&at("weir"), &series).await;
    let told = good(&["export-prometheus", "--out", path(&at("out"))], &at("weir"));
    assert!(told.ends_with("3 blocks, 3000 samples\n"), "{told}");
    assert_eq!(dump(&promtool, &at("out")), lines(&series));
    let list = run(Command::new(&promtool).args(["tsdb", "list"]).arg(at("out")));
    assert_eq!(list.lines().count(), 4, "{list}");
    let analyzed = run(Command::new(&promtool).args(["tsdb", "analyze"]).arg(at("out")));
    assert!(
        analyzed.contains("Total Series: 10\n") && analyzed.contains("Postings entries (total label pairs): 30\n"),
        "{analyzed}"
    );
    // Through Weir once more, and only a part.
    let told = good(&["import-prometheus", path(&at("out"))], &at("again"));
    assert!(told.starts_with("3 blocks: 3000 samples, of which 0 were there already and 3000 are new\n"), "{told}");
    let told = good(&["import-prometheus", path(&at("out"))], &at("again"));
    assert!(told.starts_with("3 blocks: 3000 samples, of which 3000 were there already and 0 are new\n"), "{told}");
    let (start, end) = ((BEGIN_MS + 3_600_000).to_string(), "2026-05-29T02:30:00Z");
    let seconds = start.trim_end_matches("000");
    let args = [
        "export-prometheus",
        "--start",
        seconds,
        "--end",
        end,
        "--match",
        "{job=~\"[3-5]\"}",
        "--match",
        "{job=\"5\"}",
    ];
    good(&[&args[..], &["--block-span", "1d", "--out", path(&at("part"))]].concat(), &at("again"));
    let mut part = series.clone();
    part.retain(|(labels, _)| ["3", "4", "5"].contains(&labels.get("job").expect("a job")));
    part.iter_mut()
        .for_each(|(_, samples)| samples.retain(|s| (BEGIN_MS + 3_600_000..=1_780_021_800_000).contains(&s.t)));
    assert_eq!(dump(&promtool, &at("part")), lines(&part));
    assert!(lines(&part).len() > 100);
    // Blocks of promtool's own.
    let mut text = String::new();
    for (labels, samples) in &series[1..] {
        for sample in samples {
            let labels = labels.to_string().replace(", ", ",");
            writeln!(text, "{labels} {} {}.{:03}", sample.v, sample.t / 1000, sample.t % 1000).expect("written");
        }
    }
    fs::write(at("in.om"), text + "# EOF\n").expect("written");
    run(Command::new(&promtool).args(["tsdb", "create-blocks-from", "openmetrics"]).args([at("in.om"), at("theirs")]));
    good(&["import-prometheus", path(&at("theirs"))], &at("from-theirs"));
    good(&["export-prometheus", "--out", path(&at("theirs-again"))], &at("from-theirs"));
    assert_eq!(dump(&promtool, &at("theirs-again")), lines(&series[1..]));
}

#[tokio::test]
async fn a_real_prometheus_answers_from_exported_blocks_and_what_it_deletes_is_not_imported() {
    let test = "a_real_prometheus_answers_from_exported_blocks_and_what_it_deletes_is_not_imported";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name);
    let series = series();
    stopped_with(&at("weir"), &series).await;
    good(&["export-prometheus", "--out", path(&at("out"))], &at("weir"));
    let theirs = prometheus(&bin, dir.path(), &at("out"), "", &[]).await;
    let ours = Launch::new(&at("weir")).args(KEEP).start().await;
    let http = client();
    for (expr, time) in [("books", BEGIN_MS + 90_000), ("sum by (zone) (rate(books[1h]))", BEGIN_MS + 4 * 3_600_000)] {
        let form = [("query", expr), ("time", &format!("{}", time / 1000))];
        let answers = [&theirs.address, ours.address("/api/v1/query")];
        let [theirs, ours] = answers.map(|address| ask(&http, address, "/api/v1/query", &form));
        let (theirs, ours) = (theirs.await.expect("answered"), ours.await.expect("answered"));
        assert!(!theirs.as_array().expect("vector").is_empty(), "{expr} finds nothing");
        assert_eq!(sorted(ours), sorted(theirs), "{expr}");
    }
    let (start, end) = (BEGIN_MS / 1000 + 600, BEGIN_MS / 1000 + 3 * 3600);
    admin(&http, &theirs, &format!("delete_series?match[]=books{{job=\"3\"}}&start={start}&end={end}")).await;
    stop(theirs);
    let told = good(&["import-prometheus", path(&at("out"))], &at("imported"));
    let is_deleted = |s: &&Sample| (start * 1000..=end * 1000).contains(&s.t);
    let deleted = series[3].1.iter().filter(is_deleted).count();
    assert!(
        deleted > 100 && told.contains(&format!("\n{deleted} samples are deleted there, and left out\n")),
        "{told}"
    );
    assert!(told.contains(" has a write-ahead log, which was not read"), "{told}");
    let imported = Launch::new(&at("imported")).args(KEEP).start().await;
    let form = [("query", "count_over_time(books[10h])"), ("time", &format!("{}", BEGIN_MS / 1000 + 9 * 3600))];
    let counts = ask(&http, imported.address("/api/v1/query"), "/api/v1/query", &form).await.expect("answered");
    for one in counts.as_array().expect("vector") {
        let expect = if one["metric"]["job"] == "3" { 300 - deleted } else { 300 };
        assert_eq!(one["value"][1], json!(expect.to_string()), "{one}");
    }
}

/// Histograms of every kind, which grow and begin anew once, and a counter, each sample with the time of its begin.
fn begun_anew(dir: &Path) {
    let span = |offset, length| Span { offset, length };
    let exponential = Layout {
        schema: 1,
        zero_threshold: 0.001,
        positive: vec![span(-2, 2), span(1, 2)],
        negative: vec![span(0, 1)],
        ..Layout::default()
    };
    let custom = Layout {
        schema: model::histogram::CUSTOM_BUCKETS_SCHEMA,
        positive: vec![span(0, 4)],
        custom_values: vec![0.1, 1.0, 12.5],
        ..Layout::default()
    };
    let db = tsdb::Db::open(dir, tsdb::Options::default()).expect("opens");
    let mut batch = db.begin();
    for (kind, layout) in [("exponential", exponential), ("custom", custom)] {
        let (layout, zero) = (Arc::new(layout.clone()), u64::from(kind == "exponential"));
        for is_float in [false, true] {
            let one = |i: u64| {
                let n = i % 100 + 1;
                let negative = vec![3 * n; layout.negative.len()];
                let whole = Buckets {
                    count: 10 * n + n * zero + 3 * n * negative.len() as u64,
                    zero: n * zero,
                    positive: vec![n, 2 * n, 3 * n, 4 * n],
                    negative,
                };
                let float = |n: u64| n as f64 / 4.0;
                let counts = if is_float {
                    let floats = |of: &[u64]| of.iter().map(|n| float(*n)).collect();
                    let (positive, negative) = (floats(&whole.positive), floats(&whole.negative));
                    Counts::Float(Buckets { count: float(whole.count), zero: float(whole.zero), positive, negative })
                } else {
                    Counts::Integer(whole)
                };
                let histogram =
                    Histogram { layout: layout.clone(), hint: ResetHint::Unknown, sum: float(7 * n), counts };
                HistogramSample { t: begun(i).0, start: begun(i).1, histogram }
            };
            let histograms: Vec<HistogramSample> = (0..180).map(one).collect();
            let of = labels(&[("__name__", "latency"), ("kind", kind), ("float", if is_float { "yes" } else { "no" })]);
            batch.append(of.as_ref(), Samples { histograms: &histograms, ..Samples::default() });
        }
    }
    let floats: Vec<Sample> = (0..180).map(|i| Sample { t: begun(i).0, v: (i % 100) as f64 }).collect();
    let starts: Vec<i64> = (0..180).map(|i| begun(i).1).collect();
    let of = labels(&[("__name__", "counted")]);
    batch.append(of.as_ref(), Samples { floats: &floats, starts: &starts, ..Samples::default() });
    batch.finish(0, 1);
    db.flush().expect("flushes");
}

/// The time of a sample, and when what it counts began.
fn begun(i: u64) -> (i64, i64) {
    let at = |i: u64| BEGIN_MS + i as i64 * 60_000;
    (at(i), at(i - i % 100) - 30_000)
}

#[tokio::test]
async fn a_real_prometheus_answers_from_exported_histograms_and_start_times() {
    let test = "a_real_prometheus_answers_from_exported_histograms_and_start_times";
    let (Some(bin), Some(promtool)) = (program(test, "PROMETHEUS_BIN"), program(test, "PROMTOOL_BIN")) else { return };
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name);
    begun_anew(&at("engine").join("storage"));
    good(&["export-prometheus", "--out", path(&at("out"))], &at("engine"));
    good(&["export-prometheus", "--no-start-times", "--out", path(&at("old"))], &at("engine"));
    assert_eq!(dump(&promtool, &at("out")), dump(&promtool, &at("old")), "the samples are the same");
    good(&["import-prometheus", path(&at("out"))], &at("weir"));
    let functions = ["--enable-feature=promql-experimental-functions,use-start-timestamps"];
    let theirs = prometheus(&bin, dir.path(), &at("out"), "", &functions).await;
    let ours = Launch::new(&at("weir")).args(KEEP).args(&functions).start().await;
    let http = client();
    let exprs = [
        "latency",
        // Within a bucket it is a power, whose last bit is not the same everywhere.
        "round(histogram_quantile(0.9, latency), 0.000001)",
        "histogram_count(rate(latency[30m]))",
        "histogram_sum(increase(latency[30m]))",
        "sum by (kind) (latency)",
        "count_over_time(latency[2h])",
        "start_timestamp(latency)",
        "start_timestamp(counted)",
    ];
    for i in [50, 130, 179] {
        let time = (begun(i).0 / 1000 + 7).to_string();
        for expr in exprs {
            let form = [("query", expr), ("time", &time)];
            let answers = [&theirs.address, ours.address("/api/v1/query")];
            let [theirs, ours] = answers.map(|address| ask(&http, address, "/api/v1/query", &form));
            let (theirs, ours) = (theirs.await.expect("answered"), ours.await.expect("answered"));
            let found = theirs.as_array().expect("vector").clone();
            assert!(!found.is_empty(), "{expr} finds nothing");
            assert_eq!(sorted(ours), sorted(theirs), "{expr} at {i}");
            if expr.starts_with("start_timestamp") {
                let start = json!((begun(i).1 / 1000).to_string());
                assert!(found.iter().all(|one| one["value"][1] == start), "{expr} at {i}: {found:?}");
            }
        }
    }
    stop(theirs);
}

#[tokio::test]
async fn a_snapshot_of_a_prometheus_is_imported_with_its_native_histograms() {
    let test = "a_snapshot_of_a_prometheus_is_imported_with_its_native_histograms";
    let (Some(bin), Some(promtool)) = (program(test, "PROMETHEUS_BIN"), program(test, "PROMTOOL_BIN")) else { return };
    // The later encoding, without and with start times.
    let xor2 = ["--enable-feature=xor2-encoding"];
    let starts = ["--enable-feature=xor2-encoding,histograms-st-encoding,st-storage,created-timestamp-zero-ingestion"];
    tokio::join!(
        imports_a_snapshot(&bin, &promtool, &[], 1),
        imports_a_snapshot(&bin, &promtool, &xor2, 4),
        imports_a_snapshot(&bin, &promtool, &starts, 4),
    );
}

/// What promtool sees in a snapshot of a Prometheus, whose chunks of floats have an encoding, it sees after a way through Weir.
async fn imports_a_snapshot(bin: &Path, promtool: &Path, flags: &[&str], encoding: u8) {
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name);
    let scrape = "global: {scrape_interval: 200ms, scrape_timeout: 200ms, scrape_native_histograms: true}\n\
                  scrape_configs: [{job_name: self, static_configs: [{targets: ['ADDRESS']}]}]\n";
    let theirs = prometheus(bin, dir.path(), &at("theirs"), scrape, flags).await;
    let http = client();
    let scraped = "count_over_time(prometheus_http_request_duration_seconds{handler=\"/metrics\"}[1h]) > 5";
    until(async || match ask(&http, &theirs.address, "/api/v1/query", &[("query", scraped)]).await {
        Some(answer) if !answer.as_array().is_none_or(Vec::is_empty) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let name = admin(&http, &theirs, "snapshot").await["data"]["name"].as_str().expect("a name").to_owned();
    stop(theirs);
    let snapshot = at("theirs").join("snapshots").join(name);
    fs::create_dir_all(snapshot.join("wal")).expect("created");
    let blocks = fs::read_dir(&snapshot).expect("read").map(|e| e.expect("entry").path().join("chunks/000001"));
    let chunks = blocks.filter_map(|file| fs::read(file).ok()).next().expect("a block");
    // The first chunk is behind the eight bytes of the header; its length has one byte or two.
    let first = chunks[if chunks[8] < 0x80 { 9 } else { 10 }];
    assert_eq!(first, encoding, "{flags:?}");
    let told = good(&["import-prometheus", path(&snapshot)], &at("weir"));
    assert!(!told.contains("skipped"), "{told}");
    good(&["export-prometheus", "--out", path(&at("out"))], &at("weir"));
    let (theirs, ours) = (dump(promtool, &snapshot), dump(promtool, &at("out")));
    // A native histogram is printed in braces.
    let is_histogram = |line: &&String| line.split_once("} ").is_some_and(|(_, value)| value.starts_with('{'));
    let histograms = theirs.iter().filter(is_histogram).count();
    assert!(histograms > 5 && theirs.len() > histograms + 1000, "{histograms} of {}", theirs.len());
    assert_eq!(ours, theirs);
    // What has start times has them again.
    let mut starts = flags.iter().flat_map(|flags| flags.split(','));
    if starts.any(|flag| flag == "st-storage") {
        let again = at("again");
        good(&["import-prometheus", path(&at("out"))], &again);
        let known = |data: &Path| all_starts(&data.join("storage"));
        let (before, after) = (known(&at("weir")), known(&again));
        assert!(before.values().flatten().any(|start| *start > 0), "none has a start");
        assert_eq!(after, before);
    }
}

/// The start times of all samples, by series.
fn all_starts(dir: &Path) -> BTreeMap<Labels, Vec<i64>> {
    let db = tsdb::Db::open(dir, tsdb::Options::default()).expect("opens");
    let request = SelectRequest {
        matchers: Vec::new(),
        range: TimeRange::ALL,
        want: Want::Samples,
        series_max: usize::MAX,
        cancel: Cancel::default(),
    };
    let read = |series: model::Series| {
        let mut columns = Columns::default();
        series.data.read(request.range, &mut columns).expect("reads");
        let floats = (0..columns.len()).map(|at| columns.start(at));
        (series.labels, floats.chain(columns.histograms.iter().map(|h| h.start)).collect())
    };
    db.select(&request).expect("selects").series.into_iter().map(read).collect()
}

/// The only file of this ending in a folder.
fn only(dir: &Path, ending: &str) -> PathBuf {
    let all = fs::read_dir(dir).expect("read").map(|e| e.expect("entry").path());
    let found: Vec<PathBuf> = all.filter(|path| path.to_str().is_some_and(|path| path.ends_with(ending))).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[tokio::test]
async fn damage_is_named_repaired_and_undone_by_a_snapshot() {
    let dir = tempfile::tempdir().expect("directory");
    let data = dir.path().join("data");
    let series = series();
    let flags = [KEEP, &["--enable-admin-api"]].concat();
    let mut running = Launch::new(&data).args(&flags).start().await;
    assert_eq!(running.remote_write(&series).await.expect("answered"), 204);
    let mut snapshot = Command::new(weir_bin());
    snapshot.args(["tsdb", "snapshot", "--url", running.address(ADMIN)]);
    let snapshot = data.join("snapshots").join(run(&mut snapshot).trim());
    let told = good(&["verify"], &snapshot);
    assert!(told.ends_with("1 blocks, all sound\n"), "{told}");
    let more = [(labels(&[("__name__", "books"), ("job", "later")]), vec![Sample { t: BEGIN_MS, v: 1.0 }])];
    assert_eq!(running.remote_write(&more).await.expect("answered"), 204);
    for command in ["verify", "inspect", "repair"] {
        let (_, error) = bad(&[command], &data);
        assert!(error.contains("is another process using it?"), "{error}");
    }
    running.kill();

    // The first chunk is behind the first eight bytes.
    let block = only(&data.join("storage"), ".block");
    let mut bytes = fs::read(&block).expect("read");
    bytes[20] ^= 1;
    fs::remove_file(&block).expect("the snapshot has its own name for it");
    fs::write(&block, bytes).expect("written");
    let (_, error) = bad(&["verify"], &data);
    assert!(error.contains("0000000000.block: byte 8: checksum of the chunk is wrong (of books{"), "{error}");
    let (told, error) = bad(&["repair"], &data);
    assert!(
        told.contains("; 2700 samples are now in 0000000001.block; the original is 0000000000.block.damaged"),
        "{told}"
    );
    assert!(error.starts_with("0000000000.block: lost 300 samples of books{job="), "{error}");
    good(&["verify"], &data);
    let report: Value = serde_json::from_str(&good(&["inspect", "--json"], &data)).expect("JSON");
    assert_eq!((&report["series"], &report["samples"]), (&json!(9), &json!(2700)));
    assert!(good(&["inspect"], &data).contains("\nbooks        9 "));

    fs::remove_file(data.join("storage/manifest")).expect("removed");
    let (told, error) = bad(&["repair"], &data);
    assert!(
        told.starts_with("manifest: it is missing; it was made anew") && error.contains("lost positions"),
        "{told}{error}"
    );
    assert_eq!(good(&["repair"], &data), "nothing is damaged\n");

    let (_, error) = bad(&["restore", path(&snapshot)], &data);
    assert!(error.contains("storage is there already; move it away: mv "), "{error}");
    fs::rename(data.join("storage"), data.join("storage.old")).expect("moved");
    good(&["restore", path(&snapshot)], &data);
    let restored = Launch::new(&data).args(KEEP).start().await;
    assert_eq!(counts(&restored).await, 3001.0, "what the log has beyond the snapshot is there too");
    let refused =
        Command::new(weir_bin()).args(["tsdb", "snapshot", "--url", restored.address(ADMIN)]).output().expect("runs");
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("unavailable: admin APIs disabled; start Weir with --enable-admin-api"), "{error}");
    drop(restored);
    let alone = Launch::new(&snapshot).args(KEEP).start().await;
    assert_eq!(counts(&alone).await, 3000.0, "a snapshot is a data directory");
}

#[tokio::test]
async fn what_is_deleted_stays_deleted_after_a_kill() {
    let dir = tempfile::tempdir().expect("directory");
    let flags = [KEEP, &["--enable-admin-api"]].concat();
    let mut weir = Launch::new(dir.path()).args(&flags).start().await;
    assert_eq!(weir.remote_write(&series()).await.expect("answered"), 204);
    // Half of the 300 samples of each.
    let form = [("match[]", "books{job=\"3\"}"), ("match[]", "books{job=\"4\"}"), ("end", "2026-05-29T02:30:00Z")];
    assert_eq!(weir.post_form("/api/v1/admin/tsdb/delete_series", &form).await.0, 204);
    assert_eq!(counts(&weir).await, 2700.0);
    weir.kill();
    let weir = Launch::new(dir.path()).args(KEEP).start().await;
    assert_eq!(counts(&weir).await, 2700.0, "the log does not bring it back");
}

async fn counts(weir: &Weir) -> f64 {
    let form = [("query", "sum(count_over_time(books[10h]))"), ("time", &format!("{}", BEGIN_MS / 1000 + 6 * 3600))];
    let answer = ask(&weir.http, weir.address("/api/v1/query"), "/api/v1/query", &form).await.expect("answered");
    answer[0]["value"][1].as_str().expect("a number").parse().expect("a number")
}

#[tokio::test]
async fn exemplars_are_verified_inspected_restored_and_set_aside_when_they_are_damaged() {
    let dir = tempfile::tempdir().expect("directory");
    let data = dir.path().join("data");
    let flags = [KEEP, &["--enable-admin-api"]].concat();
    let running = Launch::new(&data).args(&flags).start().await;
    let books = labels(&[("__name__", "books")]);
    let exemplars = (0..3).map(|n| exemplar(BEGIN_MS + n, 0.5, &[("trace_id", "4bf9")])).collect();
    let sample = vec![Sample { t: BEGIN_MS, v: 1.0 }];
    let sent = send(&running.http, running.address("/api/v1/write"), 1, &[(books, sample, exemplars)]).await;
    assert_eq!(sent, (204, Some("3".to_owned())));
    let mut snapshot = Command::new(weir_bin());
    snapshot.args(["tsdb", "snapshot", "--url", running.address(ADMIN)]);
    let snapshot = data.join("snapshots").join(run(&mut snapshot).trim());
    running.stop();
    let told = good(&["verify"], &data);
    assert!(told.contains(".exemplars: 3 exemplars of 1 series, ") && told.ends_with("all sound\n"), "{told}");
    assert!(good(&["inspect"], &data).contains("\n3 exemplars of 1 series, "), "in words");

    let file = only(&data.join("storage"), ".exemplars");
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let mut bytes = fs::read(&file).expect("read");
    bytes[20] ^= 1;
    fs::remove_file(&file).expect("the snapshot has its own name for it");
    fs::write(&file, bytes).expect("written");
    let (told, error) = bad(&["verify"], &data);
    assert!(told.ends_with("1 blocks, 1 fault\n"), "{told}");
    assert!(error.contains("checksum of the exemplars is wrong"), "{error}");
    let (told, error) = bad(&["repair"], &data);
    assert_eq!(told, format!("{name}: 1 fault; nothing of it can be read; the original is {name}.damaged\n"));
    assert!(error.starts_with("lost the exemplars: ") && error.contains("checksum"), "{error}");
    assert_eq!(good(&["repair"], &data), "nothing is damaged\n");

    let restored = dir.path().join("restored");
    good(&["restore", path(&snapshot)], &restored);
    let running = Launch::new(&restored).args(KEEP).start().await;
    let (_, answer) = running.post_form("/api/v1/query_exemplars", &[("query", "books")]).await;
    assert_eq!(answer["data"][0]["exemplars"].as_array().map(Vec::len), Some(3), "{answer}");
    running.stop();
}
