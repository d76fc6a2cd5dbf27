//! The tests of `../e2e` with Weir's components as processes of their own on loopback, a token between them; and what can happen to
//! processes only.
//!
//! The binaries are those that `cargo test --workspace` builds: of the components without optimization, of the command line as `WEIR_BIN`
//! says. Not here: `../e2e/chart.rs` and `../e2e/rule_tests.rs`, which read files and start no server, and `../e2e/tsdb.rs`, which is of directories on which none
//! runs; `../e2e/memory.rs`, whose limit is that of one process; and `../e2e/promql.rs`, which starts a server by one command line for each block of Prometheus'
//! tests: what the processes make of queries is in `../e2e/differential.rs`.

#![expect(clippy::print_stderr, reason = "what a test says goes to whoever runs it")]

#[path = "../e2e/alerts.rs"]
mod alerts;
#[path = "../e2e/api.rs"]
mod api;
#[path = "../e2e/cached.rs"]
mod cached;
mod components;
#[path = "../e2e/crash.rs"]
mod crash;
#[path = "../e2e/differential.rs"]
mod differential;
#[path = "../../../runtime/tests/support/disk.rs"]
mod disk;
#[path = "../e2e/downsampling.rs"]
mod downsampling;
#[path = "../e2e/exemplars.rs"]
mod exemplars;
#[path = "../e2e/grafana.rs"]
mod grafana;
#[path = "../e2e/histograms.rs"]
mod histograms;
#[path = "../e2e/mission.rs"]
mod mission;
#[path = "../e2e/objects.rs"]
mod objects;
#[path = "../e2e/offsets.rs"]
mod offsets;
#[path = "../e2e/one_address.rs"]
mod one_address;
mod one_disk;
#[path = "../e2e/outlines.rs"]
mod outlines;
#[path = "../e2e/power_loss.rs"]
mod power_loss;
#[path = "../e2e/process.rs"]
mod process;
mod processes;
#[path = "../e2e/prometheus.rs"]
mod prometheus;
#[path = "../e2e/remote_read.rs"]
mod remote_read;
#[path = "../e2e/running.rs"]
mod running;
#[path = "../e2e/self_monitoring.rs"]
mod self_monitoring;
#[path = "../e2e/support.rs"]
mod support;
mod takeover;
#[path = "../e2e/verify.rs"]
mod verify;
#[path = "../e2e/weir.rs"]
mod weir;

use components as topology;
