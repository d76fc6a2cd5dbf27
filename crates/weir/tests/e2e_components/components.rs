//! The topology of this test program: each component a process, on ports that it has again when it alone is started anew.
//!
//! All are started at once and wait for each other, as in a cluster. They are told the same data directory, as each keeps to a folder of
//! its own in it; so it is also what `weir run` would be given. The controller has tests of its own, with the API server that it needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use crate::support::free_port;
use crate::weir::Launch;

/// In the order in which they need each other.
pub(crate) const PROCESSES: [&str; 5] = ["queue", "storage", "alerting", "ingest", "query"];

/// What the processes are started with where the test brings none.
pub(crate) const TOKEN: &str = "a-token-of-the-test";

/// Queries of dashboards that find nothing here: none.
pub(crate) const EMPTY_QUERIES: &[(&str, &str)] = &[];

/// The processes that take a flag of `weir run`.
fn takers(flag: &str) -> &'static [&'static str] {
    match flag {
        "--token-file" | "--self-monitoring-interval" => &PROCESSES,
        "--retention" => &["storage", "ingest"],
        "--enable-feature" => &["alerting", "query", "storage"],
        "--rules" => &["alerting"],
        _ => {
            let component = flag.trim_start_matches('-').split('-').next();
            let at = PROCESSES.iter().position(|name| Some(*name) == component);
            std::slice::from_ref(&PROCESSES[at.unwrap_or_else(|| panic!("no component takes {flag}"))])
        }
    }
}

/// What the processes are started with.
pub(crate) struct Layout {
    data: PathBuf,
    ports: BTreeMap<&'static str, u16>,
    flags: BTreeMap<&'static str, Vec<String>>,
    env: Vec<(String, String)>,
    /// For the token, where the test brings none.
    own: tempfile::TempDir,
}

impl Layout {
    pub(crate) fn new(launch: Launch<'_>) -> Self {
        let ports = PROCESSES.iter().chain(&["kafka"]).map(|name| (*name, free_port())).collect();
        let mut flags: BTreeMap<_, Vec<String>> = PROCESSES.iter().map(|name| (*name, Vec::new())).collect();
        for flag in launch.args.chunks(2) {
            for name in takers(&flag[0]) {
                flags.get_mut(name).expect("a process").extend_from_slice(flag);
            }
        }
        let own = tempfile::tempdir().expect("directory");
        std::fs::write(own.path().join("token"), format!("{TOKEN}\n")).expect("written");
        Layout { data: launch.data.to_owned(), ports, flags, env: launch.env, own }
    }

    fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    /// The process that answers this path: writes go to ingest, everything that people ask to the front door, and what is said between
    /// components, or is of one alone, to that one.
    pub(crate) fn answers(&self, path: &str) -> &'static str {
        let path = path.split('?').next().unwrap_or(path);
        match path {
            "/metrics" | "/api/v1/write" | "/api/v1/import/prometheus" => "ingest",
            "/api/v1/queue" => "queue",
            _ if path.starts_with("/api/v1/rulesets/") => "alerting",
            _ => "query",
        }
    }

    pub(crate) fn command(&self, name: &str) -> Command {
        let own = std::env::current_exe().expect("a path");
        let binary = own.ancestors().nth(2).expect("target/debug").join(format!("weir-{name}"));
        assert!(binary.exists(), "{} is built by cargo build --workspace", binary.display());
        let mut command = Command::new(binary);
        let flags = &self.flags[name];
        command.args(["--listen", &format!("127.0.0.1:{}", self.ports[name])]).args(flags);
        command.args(["--self-monitoring-url", &format!("{}/api/v1/write", self.url("ingest"))]);
        if !flags.iter().any(|flag| flag == "--token-file") {
            command.arg("--token-file").arg(self.own.path().join("token"));
        }
        if ["queue", "storage", "alerting"].contains(&name) {
            command.arg("--data").arg(&self.data);
        }
        let kafka = format!("127.0.0.1:{}", self.ports["kafka"]);
        match name {
            "queue" => command.args(["--kafka", &kafka]),
            "storage" | "ingest" => command.args(["--queue-address", &kafka]),
            "alerting" => command.args(["--queue-address", &kafka, "--storage-urls", &self.url("storage")]),
            _ => command
                .args(["--storage-urls", &self.url("storage"), "--alerting-url", &self.url("alerting")])
                .args(["--ingest-url", &self.url("ingest")]),
        };
        command.envs(self.env.iter().cloned());
        command
    }
}
