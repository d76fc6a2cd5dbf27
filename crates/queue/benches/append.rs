//! What a durable append costs, alone and in company: the more that wait, the more share one fsync.
//! `cargo bench -p queue --bench append`; set `TMPDIR` to the disk in question.

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures_util::future::try_join_all;
use queue::{Args, Deps, Log};

fn main() {
    divan::main();
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[divan::bench(args = [1, 16, 256], sample_count = 50)]
fn append_8_kb(bencher: Bencher, together: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("starts");
    let dir = tempfile::tempdir().expect("directory");
    let mut args = Cli::parse_from(["append", "--queue-partitions", "1"]).args;
    args.dir = dir.path().to_owned();
    let (trigger, shutdown) = runtime::Shutdown::new();
    let started = runtime.block_on(queue::start(args, Deps::default(), &prometheus::Registry::new(), shutdown));
    let started = started.expect("starts");
    let log: Arc<dyn Log> = started.log.clone();
    let payload = Bytes::from(vec![7; 8 << 10]);
    bencher.counter(ItemsCount::new(together)).bench_local(|| {
        runtime.block_on(try_join_all((0..together).map(|_| log.append(0, payload.clone(), 0)))).expect("appended")
    });
    trigger.ask();
    runtime.block_on(started.component.drained).expect("drains");
}
