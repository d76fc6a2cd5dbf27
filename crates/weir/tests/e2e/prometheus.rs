//! A real Prometheus scrapes and writes into Weir; both are asked the same.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{encode_form, free_port, program, until};
use crate::weir::{Launch, Weir};

/// What each version of remote write sends.
pub(crate) const MESSAGES: [&str; 2] = ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"];

/// Without these it sends no metadata by 2.0; and no start times, nor does it answer which it has. The last ones change what it computes.
const FEATURES: [&str; 2] = ["metadata-wal-records", "st-storage,promql-experimental-functions,use-start-timestamps"];

pub(crate) struct Prometheus {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one that scrapes itself and Weir, with their native histograms and starts or without, and sends all to Weir in this message.
pub(crate) fn start(
    bin: &std::path::Path,
    dir: &std::path::Path,
    weir: &Weir,
    message: &str,
    histograms: bool,
) -> Prometheus {
    let address = format!("127.0.0.1:{}", free_port());
    let pages: Vec<_> = weir.running.iter().map(|(_, process)| format!("'{}'", process.address)).collect();
    let mut config = String::new();
    write!(
        config,
        "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, scrape_native_histograms: {histograms}}}\n\
         scrape_configs:\n\
         - job_name: prometheus\n  static_configs: [{{targets: ['{address}']}}]\n\
         - job_name: weir\n  static_configs: [{{targets: [{pages}]}}]\n\
         - job_name: absent\n  static_configs: [{{targets: ['127.0.0.1:1']}}]\n\
         remote_write:\n\
         - url: {write}\n\
         \u{20}\u{20}protobuf_message: {message}\n\
         \u{20}\u{20}send_native_histograms: {histograms}\n\
         \u{20}\u{20}queue_config: {{max_shards: 1, batch_send_deadline: 500ms}}\n\
         \u{20}\u{20}metadata_config: {{send_interval: 1s}}\n",
        pages = pages.join(", "),
        write = weir.url("/api/v1/write"),
    )
    .expect("written");
    std::fs::write(dir.join("prometheus.yml"), config).expect("written");
    let child = Command::new(bin)
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .arg(format!("--enable-feature={}", FEATURES[usize::from(histograms)]))
        .arg("--log.level=error")
        .stdout(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    Prometheus { child, address }
}

/// A Prometheus over a directory, with an admin API, that scrapes itself if it is told to.
pub(crate) async fn prometheus(bin: &Path, dir: &Path, data: &Path, scrape: &str, flags: &[&str]) -> Prometheus {
    let address = format!("127.0.0.1:{}", free_port());
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, scrape.replace("ADDRESS", &address)).expect("written");
    let child = Command::new(bin)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={address}"))
        .args(["--web.enable-admin-api", "--storage.tsdb.retention.time=100y", "--log.level=error"])
        .args(flags)
        .stdout(Stdio::null())
        .spawn()
        .expect("prometheus starts");
    crate::support::install_tls();
    let http = reqwest::Client::new();
    until(async || match http.get(format!("http://{address}/-/ready")).send().await {
        Ok(answer) if answer.status() == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    Prometheus { child, address }
}

/// One answer, or `None` while the server does not answer with success.
pub(crate) async fn ask(http: &reqwest::Client, address: &str, path: &str, form: &[(&str, &str)]) -> Option<Value> {
    let request = http.post(format!("http://{address}{path}"));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body(encode_form(form));
    let answer: Value = serde_json::from_str(&request.send().await.ok()?.text().await.ok()?).ok()?;
    (answer["status"] == "success").then(|| answer["data"]["result"].clone())
}

pub(crate) fn sorted(result: Value) -> Vec<Value> {
    let mut series = result.as_array().expect("array").clone();
    series.sort_by_key(|s| s["metric"].to_string());
    series
}

fn number(result: &Value) -> Option<f64> {
    result[0]["value"][1].as_str()?.parse().ok()
}

/// Waits until Prometheus has sent everything up to some seconds after its start, and returns such a time.
pub(crate) async fn settled(weir: &Weir, prometheus: &Prometheus) -> f64 {
    let (mut first, mut settled_at) = (None, 0.0);
    let newest = async |expr: &str| {
        let answer = ask(&weir.http, &prometheus.address, "/api/v1/query", &[("query", expr)]).await;
        answer.as_ref().and_then(number).ok_or_else(|| format!("no answer to {expr}"))
    };
    until(async || {
        settled_at = *first.get_or_insert(newest("timestamp(prometheus_build_info)").await?) + 6.0;
        // One shard sends in order, so all before this is there.
        let sent = newest("prometheus_remote_storage_queue_highest_sent_timestamp_seconds").await?;
        if sent > settled_at + 2.0 { Ok(()) } else { Err(format!("sent up to {sent} of {settled_at}")) }
    })
    .await;
    settled_at
}

#[tokio::test]
async fn a_real_prometheus_writes_in_and_both_servers_agree() {
    let test = "a_real_prometheus_writes_in_and_both_servers_agree";
    let Some(bin) = program(test, "PROMETHEUS_BIN") else { return };
    for message in MESSAGES {
        agree(&bin, message).await;
    }
}

async fn agree(bin: &std::path::Path, message: &str) {
    let dir = tempfile::tempdir().expect("directory");
    let weir = Launch::new(&dir.path().join("weir")).start().await;
    let prometheus = start(bin, dir.path(), &weir, message, false);
    let at = settled(&weir, &prometheus).await;
    let time = format!("{at:.3}");
    for expr in [
        "up",
        "count({__name__=~\".+\"})",
        "rate(prometheus_http_requests_total[4s])",
        "sum by (job) (rate(process_cpu_seconds_total[5s]))",
        "count by (job) ({__name__=~\"go_.*|weir_.*\"})",
        "histogram_quantile(0.9, sum by (le) (rate(prometheus_http_request_duration_seconds_bucket[5s])))",
    ] {
        let form = [("query", expr), ("time", &time)];
        let theirs = ask(&weir.http, &prometheus.address, "/api/v1/query", &form).await.expect("prometheus answers");
        let ours = ask(&weir.http, weir.address("/api/v1/query"), "/api/v1/query", &form).await.expect("weir answers");
        assert!(!theirs.as_array().expect("vector").is_empty(), "{expr} finds nothing");
        assert_eq!(sorted(ours), sorted(theirs), "{expr} at {time}");
    }
    let (start, end) = (format!("{:.3}", at - 4.0), time.clone());
    for expr in ["up", "rate(prometheus_tsdb_head_samples_appended_total[2s])"] {
        let form = [("query", expr), ("start", &start), ("end", &end), ("step", "0.5")];
        let theirs =
            ask(&weir.http, &prometheus.address, "/api/v1/query_range", &form).await.expect("prometheus answers");
        let ours = ask(&weir.http, weir.address("/api/v1/query_range"), "/api/v1/query_range", &form)
            .await
            .expect("weir answers");
        assert_eq!(sorted(ours), sorted(theirs), "{expr} from {start} to {end}");
    }
    // The first version of the message sends it in its own time.
    until(async || {
        let (_, metadata) = weir.get("/api/v1/metadata?metric=prometheus_http_requests_total").await;
        let is_told = metadata["data"]["prometheus_http_requests_total"][0]["type"] == "counter";
        if is_told { Ok(()) } else { Err(metadata.to_string()) }
    })
    .await;
}
