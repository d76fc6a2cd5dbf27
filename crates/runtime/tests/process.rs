//! A component as a process: this program starts itself as one, and sends it signals. Without the test harness, since the exit status of a
//! process is what is tested.

#![expect(clippy::print_stdout, reason = "this is the harness, and the child that it reads")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use clap::Parser as _;
use runtime::{Component, process, token};

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// How the child is told what to be.
const ROLE: &str = "RUNTIME_TEST_ROLE";

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    process: process::Args,
}

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(ROLE) {
        return component(&role);
    }
    let tests: [(&str, fn()); 6] = [
        ("a_process_is_ready_once_its_component_is_and_drains_at_a_signal", ready_and_drain),
        ("a_second_signal_ends_at_once", second_signal),
        ("requests_are_taken_for_a_while_after_ready_says_no", drain_delay),
        ("a_component_that_cannot_start_or_go_on_ends_with_status_1_and_the_reason", failures),
        ("what_the_command_line_says_wrong_is_told_before_anything_runs", bad_arguments),
        ("the_metrics_of_the_process_arrive_by_remote_write_though_the_first_try_fails", self_monitoring),
    ];
    for (name, test) in tests {
        println!("test {name} ...");
        test();
    }
    println!("{} passed", tests.len());
    ExitCode::SUCCESS
}

/// The child: a component that answers `/inner` behind the token, and drains as its role says.
fn component(role: &str) -> ExitCode {
    let args = Arguments::parse();
    process::run("example", "1.2.3", args.process, async |starting| {
        if role == "refuses" {
            return Err("no disk".into());
        }
        if role == "slow" {
            // Ready once its standard input ends.
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
        }
        let mut shutdown = starting.shutdown();
        let role = role.to_owned();
        let drained = Box::pin(async move {
            if role == "fails" {
                return Err("disk on fire".into());
            }
            shutdown.asked().await;
            println!("draining");
            if role == "stuck" {
                std::future::pending::<()>().await;
            }
            Ok(())
        });
        let router = token::require(starting.token.clone(), Router::new().route("/inner", get(|| async { "inner" })));
        starting.push(Component { name: "example", router, drained });
        Ok(())
    })
}

struct Process {
    child: Child,
    url: String,
    lines: Receiver<String>,
}

fn start(role: &str, args: &[&str]) -> Process {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--listen", "127.0.0.1:0"])
        .args(args)
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    let stdout = child.stdout.take().expect("piped");
    let (sender, lines) = sync_channel(64);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.try_send(line);
        }
    });
    let first = lines.recv_timeout(PATIENCE).expect("a first line");
    let url = first.strip_prefix("weir-example 1.2.3 listens on ").expect(&first).to_owned();
    Process { child, url, lines }
}

impl Process {
    fn signal(&self) {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Its exit status and what it logged.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut log).expect("read");
        (self.child.wait().expect("waited for").code(), log)
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    // Fails where it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().expect("a runtime").block_on(future)
}

async fn status(url: &str, token: Option<&str>) -> u16 {
    let mut request = reqwest::Client::new().get(url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.expect("answered").status().as_u16()
}

/// Asks again until it is ready, which is said by the status alone.
async fn until_ready(url: &str) {
    let ready = async {
        while status(&format!("{url}/ready"), None).await != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
}

fn ready_and_drain() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let mut process = start("slow", &["--token-file", path(&file)]);
    let (url, stdin) = (process.url.clone(), process.child.stdin.take());
    block_on(async {
        assert_eq!(status(&format!("{url}/live"), None).await, 200);
        assert_eq!(status(&format!("{url}/metrics"), None).await, 200);
        assert_eq!(status(&format!("{url}/ready"), None).await, 503);
        assert_eq!(status(&format!("{url}/inner"), Some("s3cret")).await, 503);
        drop(stdin);
        until_ready(&url).await;
        assert_eq!(status(&format!("{url}/inner"), Some("s3cret")).await, 200);
        assert_eq!(status(&format!("{url}/inner"), None).await, 401);
    });
    process.signal();
    assert_eq!(process.lines.recv_timeout(PATIENCE).expect("told"), "draining");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SIGTERM: stopping"), "{log}");
}

fn second_signal() {
    let process = start("stuck", &[]);
    block_on(until_ready(&process.url));
    process.signal();
    assert_eq!(process.lines.recv_timeout(PATIENCE).expect("told"), "draining");
    process.signal();
    assert_eq!(process.ended().0, Some(130));
}

fn drain_delay() {
    let process = start("plain", &["--drain-delay", "1h"]);
    let url = process.url.clone();
    block_on(async {
        until_ready(&url).await;
        process.signal();
        let not_ready = async {
            while status(&format!("{url}/ready"), None).await != 503 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, not_ready).await.expect("in time");
        assert_eq!(status(&format!("{url}/inner"), None).await, 200);
        assert_eq!(status(&format!("{url}/live"), None).await, 200);
    });
    process.signal();
    assert_eq!(process.ended().0, Some(130));
}

fn failures() {
    let (code, log) = start("refuses", &[]).ended();
    assert_eq!(code, Some(1));
    assert!(log.contains("stopping: no disk"), "{log}");
    let (code, log) = start("fails", &[]).ended();
    assert_eq!(code, Some(1));
    assert!(log.contains("stopping: example cannot go on: disk on fire"), "{log}");
}

fn bad_arguments() {
    let run = |args: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(args).env(ROLE, "plain").env("WEIR_LISTEN", "127.0.0.1:0");
        let output = command.output().expect("ran");
        (output.status.code(), String::from_utf8(output.stderr).expect("text"))
    };
    let (code, text) = run(&["--lisen", "x"]);
    assert!(code == Some(2) && text.contains("'--listen'"), "{code:?} {text}");
    for (args, reason) in [
        (["--token-file", "/nowhere/token"], "--token-file /nowhere/token: No such file"),
        (["--self-monitoring-url", "ftp://h/x"], "--self-monitoring-url ftp://h/x: must begin with http://"),
        (["--listen", "localhost:x"], "cannot listen on localhost:x"),
        (["--log-level", "info,="], "--log-level \"info,=\""),
    ] {
        let (code, text) = run(&args);
        assert!(code == Some(1) && text.contains(reason), "{args:?}: {code:?} {text}");
    }
}

fn self_monitoring() {
    block_on(async {
        let (sender, mut bodies) = tokio::sync::mpsc::channel(16);
        let first = Arc::new(AtomicBool::new(true));
        let receive = move |body: Bytes| {
            let (sender, first) = (sender.clone(), first.swap(false, Ordering::Relaxed));
            async move {
                let _ = sender.try_send(body);
                if first {
                    (axum::http::StatusCode::SERVICE_UNAVAILABLE, "full")
                } else {
                    (axum::http::StatusCode::OK, "")
                }
            }
        };
        let ingest = Router::new().route("/api/v1/write", post(receive));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}/api/v1/write", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move { axum::serve(listener, ingest).await });
        let more = ["--self-monitoring-url", &url, "--self-monitoring-interval", "5s", "--instance", "pod-7"];
        let process = start("plain", &more);
        let mut texts = Vec::new();
        for _ in 0..3 {
            let body = tokio::time::timeout(PATIENCE, bodies.recv()).await.expect("in time").expect("a body");
            let plain = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
            texts.push(String::from_utf8_lossy(&plain).into_owned());
        }
        for text in &texts {
            for part in ["weir/example", "pod-7", "process_resident_memory_bytes", "weir_build_info"] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
        assert!(texts[2].contains("weir_self_monitoring_failures_total"));
        process.signal();
        let (code, log) = process.ended();
        assert_eq!(code, Some(0), "{log}");
        let refused = log.lines().find(|line| line.contains("status 503: full")).expect("said in the log");
        assert!(refused.contains("INFO"), "what may be a start is no warning: {refused}");
        assert!(log.contains("stored again"), "{log}");
        serving.abort();
    });
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
