//! Ingest as a process of its own, which writes to a log over the Kafka protocol. Everything but the wiring is in the library.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use model::Budget;
use queue::kafka;
use runtime::memory::Part;
use runtime::process;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

/// Takes samples in by remote write, text and JSON, and answers once they are durable in the log
#[derive(Debug, Parser)]
#[command(name = "weir-ingest", version)]
struct Command {
    #[command(flatten)]
    process: process::Args,

    #[command(flatten, next_help_heading = "Log")]
    queue: kafka::Args,

    #[command(flatten, next_help_heading = "Ingest")]
    ingest: ingest::Args,

    /// Age above which a sample is refused, such as 15d: the retention of storage; off refuses none, neither too old nor too new
    #[arg(long, env = "WEIR_RETENTION", default_value = "15d", value_name = "DURATION|off", value_parser = retention)]
    retention: Retention,
}

/// Milliseconds; `None` is off.
#[derive(Debug, Clone, Copy)]
struct Retention(Option<i64>);

fn retention(text: &str) -> Result<Retention, String> {
    model::time::parse_age_ms(text).map(Retention)
}

fn main() -> ExitCode {
    let args = Command::parse();
    process::run("ingest", env!("CARGO_PKG_VERSION"), args.process, async |starting| {
        let registry = starting.registry.clone();
        let config = kafka::Config::new(args.queue, starting.token.clone());
        let log = Arc::new(kafka::Client::connect(config, &registry).await?);
        let shares = starting.memory.shares(&[Part::Ingest]);
        let memory = Budget::new("write requests", shares.of(Part::Ingest));
        // What would expire at once is refused when it comes.
        let ingest_args = ingest::Args { sample_age_max_ms: args.retention.0, memory, ..args.ingest };
        let ingest = ingest::start(ingest_args, ingest::Deps { log }, &registry, starting.shutdown()).await?;
        starting.push(ingest.component);
        Ok(())
    })
}
