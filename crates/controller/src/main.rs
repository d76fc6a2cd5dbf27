//! The controller as a process, and the commands around the definitions of the custom resources.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};
use runtime::process;

#[global_allocator]
static ALLOCATOR: process::Allocator = process::Allocator;

/// Reconciles the custom resources of weir.dev.
#[derive(Debug, Parser)]
#[command(name = "weir-controller", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Command {
    #[command(subcommand)]
    definitions: Option<Definitions>,
    #[command(flatten)]
    process: process::Args,
    #[command(flatten)]
    controller: Option<controller::Args>,

    /// Experimental features of Prometheus that alerting has switched on, by its names, separated by commas
    #[arg(long, env = "WEIR_ENABLE_FEATURE", value_name = "A,B", default_value = "", hide_default_value = true)]
    enable_feature: String,
}

#[derive(Debug, clap::Subcommand)]
enum Definitions {
    /// Applies or prints the definitions of the custom resources
    #[command(subcommand)]
    Crds(Crds),
}

#[derive(Debug, clap::Subcommand)]
enum Crds {
    /// Applies them to the cluster, as an upgrade needs
    Apply,
    /// Prints them as YAML, or writes each to its file
    Print {
        /// Folder for the files
        #[arg(long, value_name = "DIR")]
        dir: Option<std::path::PathBuf>,
    },
}

fn main() -> ExitCode {
    let command = Command::parse();
    match (command.definitions, command.controller) {
        (Some(Definitions::Crds(crds)), _) => match definitions(crds) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Where standard error is closed there is nobody to tell.
                let _ = writeln!(std::io::stderr(), "weir-controller: {}", runtime::error::chain(&*error));
                ExitCode::FAILURE
            }
        },
        (None, Some(args)) => {
            process::run("controller", env!("CARGO_PKG_VERSION"), command.process, async |starting| {
                let features = rules::Features::from_names(&command.enable_feature)?;
                let args = controller::Args { features, ..args };
                let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "controller".to_owned());
                let identity = format!("{host}.{}.{}", std::process::id(), runtime::clock::now_ms());
                let deps = controller::Deps {
                    client: kube::Client::try_default().await?,
                    token: starting.token.clone(),
                    identity,
                };
                let registry = starting.registry.clone();
                let started = controller::start(args, deps, &registry, starting.shutdown()).await?;
                starting.push(started.component);
                Ok(())
            })
        }
        (None, None) => {
            let missing = "--alerting-url is needed (or the environment variable WEIR_ALERTING_URL)";
            Command::command().error(clap::error::ErrorKind::MissingRequiredArgument, missing).exit()
        }
    }
}

fn definitions(crds: Crds) -> Result<(), runtime::error::Failure> {
    let mut out = std::io::stdout();
    match crds {
        Crds::Print { dir: None } => {
            for (_, text) in rules::kubernetes::manifests()? {
                write!(out, "---\n{text}")?;
            }
        }
        Crds::Print { dir: Some(dir) } => {
            std::fs::create_dir_all(&dir)?;
            for (file, text) in rules::kubernetes::manifests()? {
                std::fs::write(dir.join(file), text)?;
            }
        }
        Crds::Apply => {
            // Fails only where one is installed, and nothing was before.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let applied = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                Ok::<_, runtime::error::Failure>(controller::crds::apply(kube::Client::try_default().await?).await?)
            })?;
            for name in applied {
                writeln!(out, "applied {name}")?;
            }
        }
    }
    Ok(())
}
