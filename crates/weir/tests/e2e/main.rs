//! The product from outside: the binary, its HTTP API, real senders, crashes. Here Weir is `weir run`; the same tests, but for those
//! that start no server, are run in `e2e_components` with its components as processes.
//!
//! `WEIR_BIN` names the binary under test (`make test` builds the release one for it); without it, the one that cargo built for
//! these tests. Everything listens on port 0 or on a port that the system gave; nothing waits for time to pass.

#![expect(clippy::print_stderr, reason = "what a test says goes to whoever runs it")]

mod alerts;
mod api;
mod cached;
mod chart;
mod crash;
mod differential;
#[path = "../../../runtime/tests/support/disk.rs"]
mod disk;
mod downsampling;
mod exemplars;
mod grafana;
mod histograms;
mod memory;
mod mission;
mod objects;
mod offsets;
mod one_address;
mod one_process;
mod outlines;
mod power_loss;
mod process;
mod prometheus;
mod promql;
mod remote_read;
mod rule_tests;
mod running;
mod self_monitoring;
mod support;
mod tsdb;
mod verify;
mod weir;

use one_process as topology;
