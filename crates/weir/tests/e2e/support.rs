//! Starts and kills Weir, and speaks its protocols as a client would.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, Once};
use std::time::Duration;

use model::{Labels, Sample};
use serde_json::Value;

/// How long anything may take before the test gives up. Nothing here is measured; on a machine that is busy it is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running Weir, killed when it is dropped.
pub(crate) struct Weir {
    child: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
    pub(crate) http: reqwest::Client,
}

/// How to start it.
pub(crate) struct Launch<'a> {
    pub(crate) data: &'a Path,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
}

impl<'a> Launch<'a> {
    /// With nothing but a data directory, its own metrics left out so that only the test's samples are there.
    pub(crate) fn new(data: &'a Path) -> Self {
        Launch { data, args: vec!["--self-monitoring-interval".into(), "0s".into()], env: Vec::new() }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|a| (*a).to_owned()));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Weir {
        let mut weir = self.spawn();
        weir.ready().await;
        weir
    }

    /// Starts it and waits for its address only.
    pub(crate) fn spawn(self) -> Weir {
        let mut command = Command::new(weir_bin());
        command.args(["run", "--listen", "127.0.0.1:0", "--data"]).arg(self.data).args(&self.args).envs(self.env);
        Weir::spawn(&mut command)
    }
}

impl Weir {
    /// Starts a process of Weir and waits for its address.
    pub(crate) fn spawn(command: &mut Command) -> Weir {
        install_tls();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("weir starts");
        let (address, listening) = sync_channel(1);
        // Both pipes are drained to the end, or weir would block on a full one; stderr is shown when a test fails.
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("http://") {
                    let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(rest.len());
                    let _ = address.try_send(rest[..end].to_owned());
                }
            }
        });
        let stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("weir: {line}");
            }
        });
        let address = listening.recv_timeout(PATIENCE).expect("weir prints its address on standard output");
        Weir { child, address, http: reqwest::Client::builder().timeout(PATIENCE).build().expect("client") }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for `/ready`. The server answers 503 until then, so this asks again; the process ending is a failure.
    pub(crate) async fn ready(&mut self) {
        until(async || {
            if let Some(status) = self.child.try_wait().expect("child") {
                panic!("weir ended while starting: {status}");
            }
            match self.http.get(self.url("/ready")).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited for");
    }

    /// SIGTERM, and what a service manager sees of it.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(done.success());
        self.child.wait().expect("waited for")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        body(self.http.get(self.url(path)).send().await.expect("answered")).await
    }

    pub(crate) async fn post_json(&self, path: &str, json: &Value) -> (u16, Value) {
        let request = self.http.post(self.url(path)).header("content-type", "application/json").body(json.to_string());
        body(request.send().await.expect("answered")).await
    }

    pub(crate) async fn post_form(&self, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let request = self.http.post(self.url(path)).header("content-type", "application/x-www-form-urlencoded");
        body(request.body(encode_form(form)).send().await.expect("answered")).await
    }

    pub(crate) async fn post_text(&self, path: &str, text: &str) -> (u16, String) {
        let request = self.http.post(self.url(path)).header("content-type", "text/plain; version=0.0.4");
        let answer = request.body(text.to_owned()).send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Sends one remote-write request; the status that came back, or what went wrong on the way.
    pub(crate) async fn remote_write(&self, series: &[(Labels, Vec<Sample>)]) -> Result<u16, reqwest::Error> {
        remote_write(&self.http, &self.address, series).await
    }

    /// An instant query that must succeed; its `data.result`.
    pub(crate) async fn query(&self, expr: &str) -> Value {
        let (status, answer) = self.post_form("/api/v1/query", &[("query", expr)]).await;
        assert_eq!(status, 200, "{expr}: {answer}");
        answer["data"]["result"].clone()
    }

    /// The process' metrics page.
    pub(crate) async fn metrics(&self) -> String {
        self.http.get(self.url("/metrics")).send().await.expect("answered").text().await.expect("text")
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn body(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub(crate) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("first in this process");
    });
}

pub(crate) fn weir_bin() -> PathBuf {
    std::env::var_os("WEIR_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_weir")), PathBuf::from)
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).expect("valid labels")
}

pub(crate) fn encode_form(form: &[(&str, &str)]) -> String {
    form.iter().map(|(n, v)| format!("{}={}", percent(n), percent(v))).collect::<Vec<_>>().join("&")
}

pub(crate) fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

pub(crate) async fn remote_write(
    http: &reqwest::Client,
    address: &str,
    series: &[(Labels, Vec<Sample>)],
) -> Result<u16, reqwest::Error> {
    let body = snap::raw::Encoder::new().compress_vec(&write_request(series)).expect("compresses");
    let request = http
        .post(format!("http://{address}/api/v1/write"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    let answer = request.body(body).send().await?;
    let status = answer.status().as_u16();
    answer.bytes().await?;
    Ok(status)
}

/// A `prometheus.WriteRequest`, written out by hand so that the decoder under test is not its own oracle.
pub(crate) fn write_request(series: &[(Labels, Vec<Sample>)]) -> Vec<u8> {
    let mut request = Vec::new();
    for (labels, samples) in series {
        let mut one = Vec::new();
        for (name, value) in labels.iter() {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut one, 1, &label);
        }
        for sample in samples {
            let mut message = vec![0x09];
            message.extend_from_slice(&sample.v.to_le_bytes());
            message.push(0x10);
            varint(&mut message, sample.t as u64);
            field(&mut one, 2, &message);
        }
        field(&mut request, 1, &one);
    }
    request
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A program that tests need and that may be absent: a name for the report of skipped tests, or its path.
pub(crate) fn program(test: &str, variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from).filter(|p| p.is_file());
    if path.is_none() {
        // `.ci/run` reads this file: a skip that is not in the committed list fails the run.
        let report = std::env::var_os("WEIR_SKIPS").map(PathBuf::from);
        if let Some(report) = report {
            std::fs::create_dir_all(&report).expect("created");
            std::fs::write(report.join(test), format!("{variable} names no program")).expect("written");
        }
        eprintln!("skipped: {test}: {variable} names no program (see CONTRIBUTING.md)");
    }
    path
}

/// The output of a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A port that is free, for programs that cannot say which one they got, and for those that have it again after a restart. It lies below those
/// that the system gives to connections, so that none of them takes it in between.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("not poisoned");
    loop {
        let port = fastrand::u16(12_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}

/// Asks again until the answer is there: for servers that cannot tell when something becomes so. `ask` says what it saw instead.
pub(crate) async fn until(mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let mut seen = String::new();
    let asking = async {
        while let Err(instead) = ask().await {
            seen = instead;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asking).await;
    assert!(in_time.is_ok(), "not within {PATIENCE:?}: {seen}");
}
