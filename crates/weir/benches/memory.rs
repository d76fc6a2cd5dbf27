//! A million series within a memory limit of the system: samples come while queries do, the process is killed and reads the log again, from the last flush and
//! from its beginning, and blocks are merged while queries go on.
//!
//! `cargo bench -p weir --bench memory` is the test of the same name with more series, on the program that `WEIR_BIN` names, else the one that cargo built. It
//! fails where the test does, and prints what each part held and what the system gave the process.

#![expect(clippy::print_stderr, reason = "a bench prints its figures")]

#[path = "../tests/e2e/memory.rs"]
mod memory;
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

use memory::Scale;
use one_process as topology;

#[tokio::main]
async fn main() {
    // `cargo test --all-targets` starts benches too, to see that they run; measuring is for `cargo bench`.
    if std::env::args().any(|a| a == "--bench") {
        memory::run(Scale { series: 1_000_000, rounds: 2, limit: 2 << 30 }).await;
    }
}
