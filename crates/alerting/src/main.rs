//! Alerting as a process of its own: it reads the log over the Kafka protocol, and storage nodes over the network. Everything but the
//! wiring is in the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use model::Budget;
use queue::kafka;
use runtime::memory::Part;
use runtime::{clock, process};
use storage::reader;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

/// Evaluates alert rules as samples arrive, and tells the channels
#[derive(Debug, Parser)]
#[command(name = "weir-alerting", version)]
struct Command {
    /// Folder for the database, which is in its subfolder alerting
    #[arg(long, env = "WEIR_DATA", value_name = "DIR")]
    data: PathBuf,

    #[command(flatten)]
    process: process::Args,

    #[command(flatten, next_help_heading = "Log")]
    queue: kafka::Args,

    #[command(flatten, next_help_heading = "Storage")]
    storage: reader::Args,

    #[command(flatten, next_help_heading = "Alerting")]
    alerting: alerting::Args,

    /// Experimental features of Prometheus to switch on, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    enable_feature: String,
}

fn main() -> ExitCode {
    let args = Command::parse();
    process::run("alerting", env!("CARGO_PKG_VERSION"), args.process, async |starting| {
        let features = promql::Features::from_names(&args.enable_feature)?;
        for (feature, what) in promql::Features::told(&args.enable_feature) {
            tracing::info!(feature, "{what}");
        }
        let (registry, token) = (starting.registry.clone(), starting.token.clone());
        let log = Arc::new(kafka::Client::connect(kafka::Config::new(args.queue, token.clone()), &registry).await?);
        let reader = reader::connect(&args.storage, token.clone(), &registry)?;
        let alerting_args = alerting::Args {
            dir: args.data.join("alerting"),
            features,
            memory: Budget::new("alerting", starting.memory.shares(&[Part::Alerting]).of(Part::Alerting)),
            seed: clock::now_ms().unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32),
            ..args.alerting
        };
        let deps = alerting::Deps { log, reader, token, open: false };
        let alerting = alerting::start(alerting_args, deps, &registry, starting.shutdown()).await?;
        starting.push(alerting.component);
        Ok(())
    })
}
