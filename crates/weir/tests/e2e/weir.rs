//! Weir as a client sees it, in whatever processes it runs: what the tests start, ask and end. Which process answers what is said by
//! [`crate::topology`], which is another one in each test program.

use std::path::Path;

use model::{Labels, Sample};
use serde_json::Value;

use crate::process::Process;
use crate::support::{PATIENCE, encode_form, remote_write};
use crate::topology::{self, Layout};

/// How to start it: with flags of `weir run`, each of which goes to the processes that take it.
pub(crate) struct Launch<'a> {
    pub(crate) data: &'a Path,
    /// Flags and their values in turn.
    pub(crate) args: Vec<String>,
    /// For all processes.
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

    /// Starts all processes and waits for their addresses only.
    pub(crate) fn spawn(self) -> Weir {
        self.spawn_with(|layout, name| Process::spawn(name, &mut layout.command(name)))
    }

    /// As [`Launch::spawn`], each process as `spawn` starts it.
    pub(crate) fn spawn_with(self, spawn: impl Fn(&Layout, &'static str) -> Process) -> Weir {
        let layout = Layout::new(self);
        let running = topology::PROCESSES.map(|name| (name, spawn(&layout, name))).into();
        Weir { layout, running, http: client() }
    }
}

/// A client that lets no connection idle until the server closes it, which may be while a request is on its way.
fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().timeout(2 * PATIENCE).pool_idle_timeout(runtime::listener::CLIENT_IDLE);
    client.build().expect("client")
}

/// A running Weir, killed when it is dropped.
pub(crate) struct Weir {
    pub(crate) layout: Layout,
    /// In the order of [`topology::PROCESSES`].
    pub(crate) running: Vec<(&'static str, Process)>,
    pub(crate) http: reqwest::Client,
}

impl Weir {
    /// `127.0.0.1:PORT` of the process that answers this path.
    pub(crate) fn address(&self, path: &str) -> &str {
        let name = self.layout.answers(path);
        let (_, process) = self.running.iter().find(|(running, _)| *running == name).expect("runs");
        &process.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address(path))
    }

    /// Waits until all are ready; a process that ends is a failure.
    pub(crate) async fn ready(&mut self) {
        for (_, process) in &mut self.running {
            process.ready(&self.http).await;
        }
    }

    /// `kill -9` of everything, as when the machine dies.
    pub(crate) fn kill(&mut self) {
        self.running.iter_mut().for_each(|(_, process)| process.kill());
        self.running.clear();
    }

    /// SIGTERM to one after the other, those first that need the others; each has to drain and end with status 0.
    pub(crate) fn stop(mut self) {
        while let Some((name, mut process)) = self.running.pop() {
            let status = process.terminate();
            assert!(status.success(), "{name}: {status}");
        }
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
        remote_write(&self.http, self.address("/api/v1/write"), series).await
    }

    /// An instant query that must succeed; its `data.result`.
    pub(crate) async fn query(&self, expr: &str) -> Value {
        let (status, answer) = self.post_form("/api/v1/query", &[("query", expr)]).await;
        assert_eq!(status, 200, "{expr}: {answer}");
        answer["data"]["result"].clone()
    }

    /// The metrics pages of all processes, one after the other.
    pub(crate) async fn metrics(&self) -> String {
        let mut pages = String::new();
        for (_, process) in &self.running {
            let page = self.http.get(format!("http://{}/metrics", process.address)).send().await.expect("answered");
            pages.push_str(&page.text().await.expect("text"));
        }
        pages
    }
}

async fn body(answer: reqwest::Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("text");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
