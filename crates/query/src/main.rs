//! Query as a process of its own, over storage nodes on the network, and the front door to alerting and ingest. Everything but the
//! wiring is in the library.

use std::process::ExitCode;

use clap::Parser;
use model::Budget;
use query::{About, FrontDoor, front_door};
use runtime::memory::Part;
use runtime::process;
use storage::reader;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

/// Answers PromQL on Prometheus' HTTP API, and is the one address for Grafana, the status page and the command line
#[derive(Debug, Parser)]
#[command(name = "weir-query", version)]
struct Command {
    #[command(flatten)]
    process: process::Args,

    #[command(flatten, next_help_heading = "Storage")]
    storage: reader::Args,

    #[command(flatten, next_help_heading = "Front door")]
    front_door: front_door::Args,

    #[command(flatten, next_help_heading = "Query")]
    query: query::Args,

    /// Experimental features of Prometheus to switch on, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    enable_feature: String,
}

fn main() -> ExitCode {
    let args = Command::parse();
    process::run("query", env!("CARGO_PKG_VERSION"), args.process, async |starting| {
        let features = promql::Features::from_names(&args.enable_feature)?;
        for (feature, what) in promql::Features::told(&args.enable_feature) {
            tracing::info!(feature, "{what}");
        }
        let (registry, token) = (starting.registry.clone(), starting.token.clone());
        let reader = reader::connect(&args.storage, token.clone(), &registry)?;
        // Storage, with its retention and its admin API, is elsewhere.
        let about = About { memory_bytes_max: starting.memory.bytes, ..About::default() };
        let deps = query::Deps { reader, front_door: FrontDoor { args: args.front_door, token }, about };
        let shares = starting.memory.shares(&[Part::Queries]);
        let memory = Budget::new("queries", shares.of(Part::Queries));
        let query_args = query::Args { features, memory, ..args.query };
        let query = query::start(query_args, deps, &registry, starting.shutdown()).await?;
        starting.push(query.component);
        Ok(())
    })
}
