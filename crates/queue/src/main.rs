//! The log as a process of its own, served by the Kafka protocol. Everything but the wiring is in the library.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use model::Budget;
use runtime::memory::{Part, Told, register_part};
use runtime::process;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

/// Weir's log, served by the Kafka protocol
#[derive(Debug, Parser)]
#[command(name = "weir-queue", version)]
struct Command {
    /// Folder for the log, which is in its subfolder queue
    #[arg(long, env = "WEIR_DATA", value_name = "DIR")]
    data: PathBuf,

    #[command(flatten)]
    process: process::Args,

    #[command(flatten, next_help_heading = "Log")]
    queue: queue::Args,
}

fn main() -> ExitCode {
    let args = Command::parse();
    process::run("queue", env!("CARGO_PKG_VERSION"), args.process, async |starting| {
        let token = starting.token.clone();
        let memory = Budget::new("records of the log", starting.memory.shares(&[Part::Log]).of(Part::Log));
        let registry = starting.registry.clone();
        let own = memory.clone();
        register_part(&registry, Part::Log, move || Told {
            bytes_max: own.bytes_max(),
            held: own.held(),
            peak: own.peak(),
            refused: own.refused(),
        })?;
        let queue_args = queue::Args { dir: args.data.join("queue"), memory, token, ..args.queue };
        let queue = queue::start(queue_args, queue::Deps {}, &registry, starting.shutdown()).await?;
        starting.push(queue.component);
        Ok(())
    })
}
