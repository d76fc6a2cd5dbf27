//! Exemplars and metadata by both versions of remote write: what is acknowledged stays, and what is answered is what a real Prometheus answers.

use std::process::{Child, Command, Stdio};

use model::{Exemplar, Labels, Sample};
use serde_json::json;

use crate::prometheus::MESSAGES;
use crate::support::{encode_form, field, free_port, labels, program, until, varint};
use crate::weir::{Launch, Weir};

/// A series of a request, with samples and exemplars.
pub(crate) type Series = (Labels, Vec<Sample>, Vec<Exemplar>);

const PATH: &str = "/api/v1/query_exemplars";
/// Content types of both versions.
const VERSIONS: [&str; 2] = ["application/x-protobuf", "application/x-protobuf;proto=io.prometheus.write.v2.Request"];

/// Value and time of a sample or an exemplar, whose fields have these numbers.
fn point(out: &mut Vec<u8>, v: f64, t: i64, [value, time]: [u8; 2]) {
    out.push(value << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
    out.push(time << 3);
    varint(out, t as u64);
}

/// Samples, and exemplars in the field of this number with their labels as the version puts them.
fn put_points(
    out: &mut Vec<u8>,
    samples: &[Sample],
    exemplars: &[Exemplar],
    number: u8,
    mut put_labels: impl FnMut(&mut Vec<u8>, &Labels),
) {
    for sample in samples {
        let mut message = Vec::new();
        point(&mut message, sample.v, sample.t, [1, 2]);
        field(out, 2, &message);
    }
    for exemplar in exemplars {
        let mut message = Vec::new();
        put_labels(&mut message, &exemplar.labels);
        point(&mut message, exemplar.v, exemplar.t, [2, 3]);
        field(out, number, &message);
    }
}

/// A `prometheus.WriteRequest`, with what is said of a family.
fn first(all: &[Series]) -> Vec<u8> {
    fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
        for (name, value) in labels.iter() {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(out, 1, &label);
        }
    }
    let mut request = Vec::new();
    for (labels, samples, exemplars) in all {
        let mut one = Vec::new();
        put_labels(&mut one, labels);
        put_points(&mut one, samples, exemplars, 3, put_labels);
        field(&mut request, 1, &one);
    }
    // A counter, its family and its help.
    let mut metadata = vec![8, 1];
    field(&mut metadata, 2, b"requests");
    field(&mut metadata, 4, b"All of them.");
    field(&mut request, 3, &metadata);
    request
}

/// An `io.prometheus.write.v2.Request`.
fn second(all: &[Series]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut put_refs = |out: &mut Vec<u8>, labels: &Labels| {
        let mut refs = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            let at = symbols.iter().position(|known| known == text).unwrap_or_else(|| {
                symbols.push(text.to_owned());
                symbols.len() - 1
            });
            varint(&mut refs, at as u64);
        }
        field(out, 1, &refs);
    };
    let mut series = Vec::new();
    for (labels, samples, exemplars) in all {
        let mut one = Vec::new();
        put_refs(&mut one, labels);
        put_points(&mut one, samples, exemplars, 4, &mut put_refs);
        field(&mut series, 5, &one);
    }
    let mut request = Vec::new();
    symbols.iter().for_each(|text| field(&mut request, 4, text.as_bytes()));
    request.extend_from_slice(&series);
    request
}

/// Sends a request of a version, and returns the status with how many exemplars are said to be written.
pub(crate) async fn send(
    http: &reqwest::Client,
    address: &str,
    version: usize,
    all: &[Series],
) -> (u16, Option<String>) {
    let message = if version == 0 { first(all) } else { second(all) };
    let request = http
        .post(format!("http://{address}/api/v1/write"))
        .header("content-type", VERSIONS[version])
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", ["0.1.0", "2.0.0"][version])
        .body(snap::raw::Encoder::new().compress_vec(&message).expect("compresses"));
    let answer = request.send().await.expect("answered");
    let written = answer.headers().get("x-prometheus-remote-write-exemplars-written");
    (answer.status().as_u16(), written.map(|count| count.to_str().expect("a number").to_owned()))
}

/// Asks for exemplars: status and body.
async fn ask(http: &reqwest::Client, address: &str, form: &[(&str, &str)]) -> (u16, String) {
    let request = http.post(format!("http://{address}{PATH}"));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(encode_form(form));
    let answer = request.send().await.expect("answered");
    (answer.status().as_u16(), answer.text().await.expect("text"))
}

pub(crate) fn exemplar(t: i64, v: f64, pairs: &[(&str, &str)]) -> Exemplar {
    Exemplar::new(t, v, pairs).expect("valid")
}

fn now_ms() -> i64 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64
}

#[tokio::test]
async fn exemplars_and_metadata_survive_a_kill_and_then_the_loss_of_the_log() {
    let dir = tempfile::tempdir().expect("directory");
    let now = now_ms();
    let mut weir = Launch::new(dir.path()).start().await;
    let mut all = Vec::new();
    for (version, name) in ["requests_total", "requests_bucket"].into_iter().enumerate() {
        let series = labels(&[("__name__", name), ("le", "1")]);
        let exemplars = vec![exemplar(now - 5, 0.5, &[("trace_id", "4bf9")]), exemplar(now, 0.75, &[])];
        let one = (series, vec![Sample { t: now, v: 1.0 }], exemplars);
        let sent = send(&weir.http, weir.address("/api/v1/write"), version, std::slice::from_ref(&one)).await;
        assert_eq!(sent, (204, Some("2".to_owned())));
        all.push(one);
    }
    let form = [("query", "rate(requests_total[5m]) + requests_bucket")];
    let expect = weir.post_form(PATH, &form).await;
    assert_eq!(expect.1["data"].as_array().map(Vec::len), Some(2), "{expect:?}");
    assert_eq!(expect.1["data"][1]["exemplars"][0]["labels"], json!({ "trace_id": "4bf9" }), "{expect:?}");
    weir.kill();
    let weir = Launch::new(dir.path()).start().await;
    assert_eq!(weir.post_form(PATH, &form).await, expect, "read from the log again");
    // What no client got an answer to is sent again.
    assert_eq!(send(&weir.http, weir.address("/api/v1/write"), 0, &all).await.0, 204);
    assert_eq!(weir.post_form(PATH, &form).await, expect, "each once");
    weir.stop();
    std::fs::remove_dir_all(dir.path().join("queue")).expect("removed");
    let weir = Launch::new(dir.path()).start().await;
    assert_eq!(weir.post_form(PATH, &form).await, expect, "from storage's files");
    let (_, metadata) = weir.get("/api/v1/metadata").await;
    let entry = json!([{ "type": "counter", "unit": "", "help": "All of them." }]);
    assert_eq!(metadata["data"]["requests"], entry, "{metadata}");
    weir.stop();
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_exemplars_go_and_are_counted() {
    let dir = tempfile::tempdir().expect("directory");
    let now = now_ms();
    let weir = Launch::new(dir.path()).args(&["--storage-exemplars-max", "3"]).start().await;
    let series = labels(&[("__name__", "a")]);
    let exemplars = (0..5).map(|n| exemplar(now + n, n as f64, &[])).collect();
    assert_eq!(send(&weir.http, weir.address("/api/v1/write"), 1, &[(series, Vec::new(), exemplars)]).await.0, 204);
    let (_, answer) = weir.post_form(PATH, &[("query", "a")]).await;
    let values: Vec<_> =
        answer["data"][0]["exemplars"].as_array().expect("a list").iter().map(|e| &e["value"]).collect();
    assert_eq!(values, ["2", "3", "4"], "{answer}");
    weir.stop();
    let weir = Launch::new(dir.path()).args(&["--storage-exemplars-max", "2"]).start().await;
    let page = weir.metrics().await;
    for line in ["weir_storage_exemplars 2", "weir_storage_exemplars_max 2", "weir_storage_evicted_exemplars_total 1"] {
        let told = async || {
            let page = weir.metrics().await;
            if page.lines().any(|l| l == line) { Ok(()) } else { Err(format!("no {line}")) }
        };
        until(told).await;
    }
    assert!(page.contains("weir_ingest_exemplars_total 0"), "{page}");
}

struct Prometheus {
    child: Child,
    address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// One that keeps exemplars and takes remote write, with more of a configuration.
    async fn start(bin: &std::path::Path, dir: &std::path::Path, http: &reqwest::Client, more: &str) -> Prometheus {
        let address = format!("127.0.0.1:{}", free_port());
        let config = format!("storage: {{exemplars: {{max_exemplars: 1000}}}}\n{more}");
        std::fs::write(dir.join("prometheus.yml"), config).expect("written");
        let child = Command::new(bin)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--enable-feature=exemplar-storage", "--web.enable-remote-write-receiver", "--log.level=error"])
            .stdout(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        let prometheus = Prometheus { child, address };
        until(async || {
            let answer = http.get(format!("http://{}/-/ready", prometheus.address)).send().await;
            let answer = answer.map_err(|e| e.to_string())?;
            if answer.status().is_success() { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await;
        prometheus
    }
}

/// Series with exemplars that ascend, as Prometheus takes no others, and some that neither takes.
fn sent(now: i64, name: &str) -> Vec<Series> {
    let sample = |t| vec![Sample { t, v: 1.0 }];
    let series = |le: &str| labels(&[("__name__", name), ("le", le), ("odd", "<é&\">")]);
    let long = "é".repeat(127);
    let odd = vec![
        exemplar(now - 3000, f64::NEG_INFINITY, &[("<trace>", "\"é\u{1}&")]),
        exemplar(now - 2000, -0.0, &[]),
        exemplar(now - 2000, 1e21, &[("t", &long)]),
        exemplar(now - 1999, 5e-324, &[("b", "2"), ("a", "1")]),
    ];
    let not_taken = vec![
        exemplar(now, 0.5, &[("t", "1")]),
        // One character more than is taken, which the model would refuse.
        Exemplar { t: now + 1, v: 0.5, labels: labels(&[("t", &format!("{long}x"))]) },
        exemplar(now + 3_600_000, 0.5, &[]),
        exemplar(now + 2, 0.5, &[("t", "2")]),
    ];
    vec![
        (series("1"), sample(now), odd),
        (series("0.5"), sample(now), not_taken),
        (series("2"), sample(now), Vec::new()),
    ]
}

#[tokio::test]
async fn the_same_exemplars_are_answered_in_the_bytes_of_a_real_prometheus() {
    let test = "the_same_exemplars_are_answered_in_the_bytes_of_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(&dir.path().join("weir")).start().await;
    let prometheus = Prometheus::start(&bin, dir.path(), &weir.http, "").await;
    // Times that end in a zero, and some that do not.
    let now = now_ms() / 1000 * 1000 - 500;
    for (version, name) in ["first", "second"].into_iter().enumerate() {
        let all = sent(now, name);
        let theirs = send(&weir.http, &prometheus.address, version, &all).await;
        let ours = send(&weir.http, weir.address("/api/v1/write"), version, &all).await;
        assert_eq!((ours.0, ours.1.as_deref()), (204, Some("6")), "{name}");
        // Of 1.0 it tells nothing.
        assert_eq!((theirs.0, theirs.1.as_deref()), (204, [None, Some("6")][version]), "{name}");
    }
    agree(&weir, &prometheus, now).await;
}

/// A target of a counter with an exemplar; it ends with the test's runtime.
async fn target(now: i64) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address").to_string();
    let (seconds, millis) = (now / 1000, now % 1000);
    let page = format!(
        "# TYPE requests counter\nrequests_total{{code=\"200\"}} 1 # {{trace_id=\"4bf9\"}} 0.5 {seconds}.{millis:03}\n# EOF\n"
    );
    let content_type = [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let router = axum::Router::new().route("/metrics", axum::routing::get(async move || (content_type, page)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn the_newest_samples_are_federated_as_by_a_real_prometheus() {
    let test = "the_newest_samples_are_federated_as_by_a_real_prometheus";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    let (dir, prometheus_dir) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let weir = Launch::new(dir.path()).start().await;
    let prometheus = Prometheus::start(&bin, prometheus_dir.path(), &weir.http, "").await;
    let now = now_ms();
    let samples = |values: &[(i64, f64)]| values.iter().map(|(t, v)| Sample { t: now + t, v: *v }).collect::<Vec<_>>();
    let mut all: Vec<Series> = Vec::new();
    let mut add =
        |pairs: &[(&str, &str)], values: &[(i64, f64)]| all.push((labels(pairs), samples(values), Vec::new()));
    add(&[("__name__", "b_total"), ("job", "x"), ("instance", "y")], &[(-2000, 1.0), (-1000, 2.5e-9)]);
    add(&[("__name__", "b_total"), ("job", "odd \\ \" \n é")], &[(-1000, f64::INFINITY)]);
    add(&[("__name__", "b_total"), ("job", "old")], &[(-400_000, 1.0)]);
    add(&[("__name__", "b_total"), ("job", "ended")], &[(-2000, 1.0), (-1000, model::stale_nan())]);
    add(&[("__name__", "a"), ("job", "z")], &[(-1000, f64::NAN)]);
    add(&[("__name__", "a.b"), ("c.d", "é"), ("e:f", "g")], &[(-1000, -1.5)]);
    for address in [weir.address("/api/v1/write"), &prometheus.address] {
        assert_eq!(send(&weir.http, address, 0, &all).await.0, 204);
    }
    let ask = async |address: &str, query: &str, accept: &str| {
        let answer = weir.http.get(format!("http://{address}/federate?{query}")).header("accept", accept);
        let answer = answer.send().await.expect("answered");
        let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
        (answer.status().as_u16(), kind, answer.text().await.expect("text"))
    };
    let (all, some) = ("match[]=%7B__name__!=%22%22%7D", "match[]=b_total&match[]=%7Bjob=%22x%22%7D");
    let utf8 = "text/plain;version=1.0.0;escaping=allow-utf-8";
    for (query, accept, lines) in
        [(all, "text/plain", 7), (all, utf8, 7), (some, "text/plain", 3), ("", "text/plain", 0)]
    {
        let ours = ask(weir.address("/federate"), query, accept).await;
        let theirs = ask(&prometheus.address, query, accept).await;
        fn samples(text: &str) -> Vec<(&str, Option<u64>, &str)> {
            text.lines().map(line).collect()
        }
        assert_eq!((ours.0, samples(&ours.2)), (theirs.0, samples(&theirs.2)), "{query} {accept}");
        assert_eq!(ours.2.lines().count(), lines, "{}", ours.2);
        assert!(query.is_empty() || ours.1 == theirs.1, "{} instead of {}", ours.1, theirs.1);
    }
    assert_eq!(ask(weir.address("/federate"), "match[]=%7B%7D", "*/*").await.0, 400);
}

/// A line of the text format: the series, the value as a number and the time, or all of another line.
fn line(text: &str) -> (&str, Option<u64>, &str) {
    let mut parts = text.rsplitn(3, ' ');
    match (parts.next(), parts.next().and_then(|value| value.parse::<f64>().ok()), parts.next()) {
        (Some(time), Some(value), Some(series)) => (series, Some(value.to_bits()), time),
        _ => (text, None, ""),
    }
}

#[tokio::test]
async fn exemplars_that_a_real_prometheus_scrapes_come_in_by_both_versions() {
    let test = "exemplars_that_a_real_prometheus_scrapes_come_in_by_both_versions";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    for message in MESSAGES {
        let dir = tempfile::tempdir().expect("directory");
        let weir = Launch::new(&dir.path().join("weir")).start().await;
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs: [{{job_name: traced, static_configs: [{{targets: ['{}']}}]}}]\n\
             remote_write: [{{url: '{}', protobuf_message: {message}, send_exemplars: true, queue_config: {{batch_send_deadline: 100ms}}}}]\n",
            target(now_ms()).await,
            weir.url("/api/v1/write"),
        );
        let prometheus = Prometheus::start(&bin, dir.path(), &weir.http, &config).await;
        let form = [("query", "requests_total")];
        until(async || {
            let theirs = ask(&weir.http, &prometheus.address, &form).await;
            let ours = ask(&weir.http, weir.address(PATH), &form).await;
            let is_there = theirs.1.contains("4bf9") && ours == theirs;
            if is_there { Ok(()) } else { Err(format!("{message}: {ours:?}, not {theirs:?}")) }
        })
        .await;
    }
}

async fn agree(weir: &Weir, prometheus: &Prometheus, now: i64) {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    let (before, at, after) = (seconds(now - 2500), seconds(now - 2000), seconds(now + 10));
    let questions: [&[(&str, &str)]; 16] = [
        &[("query", "first")],
        &[("query", "second{le=\"1\"}")],
        &[(
            "query",
            "histogram_quantile(0.9, sum by (le) (rate(first[5m]))) / on() group_left max_over_time(second{le!=\"1\"}[1h:1m] offset 1d)",
        )],
        &[("query", "{__name__=~\"first|second\", odd!=\"\"} @ 0")],
        &[("query", "first or first{le=\"1\"}")],
        &[("query", "first"), ("start", &before)],
        &[("query", "first"), ("end", &at)],
        &[("query", "first"), ("start", &at), ("end", &at)],
        &[("query", "first"), ("start", &after)],
        &[("query", "absent(down)")],
        &[("query", "1 + time()")],
        &[("query", "\"text\"")],
        &[("query", "first"), ("start", "2"), ("end", "1")],
        &[("query", "first"), ("start", "x")],
        &[("query", "first"), ("end", "x")],
        &[("query", "sum(first")],
    ];
    for form in questions {
        let theirs = ask(&weir.http, &prometheus.address, form).await;
        let ours = ask(&weir.http, weir.address(PATH), form).await;
        assert_eq!(ours, theirs, "{form:?}");
    }
    let (_, found) = ask(&weir.http, weir.address(PATH), questions[3]).await;
    assert_eq!(found.matches("\"value\"").count(), 12, "{found}");
}
