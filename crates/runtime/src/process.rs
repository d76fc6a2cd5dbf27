//! A component as a process of its own: what its `main` does besides starting the component.
//!
//! ```text
//! #[global_allocator]
//! static ALLOCATOR: process::Allocator = process::Allocator;
//!
//! fn main() -> ExitCode {
//!     let args = Command::parse();
//!     process::run("query", env!("CARGO_PKG_VERSION"), args.process, async |starting| {
//!         let deps = …;
//!         let query = query::start(args.query, deps, &starting.registry.clone(), starting.shutdown()).await?;
//!         starting.push(query.component);
//!         Ok(())
//!     })
//! }
//! ```
//!
//! `/live` and `/metrics` are served before the component starts, so that probes and people see a process that is starting. SIGTERM
//! or SIGINT make `/ready` say no, and after `--drain-delay` stop the listener, then the component, then what was started before it; a second
//! signal ends at once. Exit status: 0
//! it went well, 1 it did not, 2 the command line cannot be read, 130 a second signal cut the drain short. Not here: configuration files;
//! in a cluster a component is configured by its arguments and environment.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use prometheus::Registry;

use crate::error::{Failure, chain};
use crate::memory::{self, Limit};
use crate::metrics::Page;
use crate::self_monitoring::SelfMonitoring;
use crate::signals::Signals;
use crate::{Component, Ended, Error, Routes, Shutdown, Stages, Token, config, listener, logs, metrics};

/// The allocator of every process of Weir. The one of musl, with which images are built, has one lock.
pub use mimalloc::MiMalloc as Allocator;

/// Exit status after a second signal, as a shell reports the end by SIGINT.
const INTERRUPTED: u8 = 130;
/// How long threads that still work are waited for after everything was drained or given up.
const LAST_THREADS: Duration = Duration::from_secs(2);

/// What every component's process is told.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address of the HTTP API, /live, /ready and /metrics; port 0 takes one that is free
    #[arg(long, env = "WEIR_LISTEN", default_value = "127.0.0.1:9360", value_name = "HOST:PORT")]
    pub listen: String,

    /// File with the token that components show each other, read again when it changes: the first line is sent, each is accepted
    #[arg(long, env = "WEIR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Where this process sends its own metrics by remote write, such as http://weir-ingest:9360/api/v1/write
    #[arg(long, env = "WEIR_SELF_MONITORING_URL", value_name = "URL")]
    pub self_monitoring_url: Option<String>,

    /// How often it sends them, as job="weir/…"; 0s sends none
    #[arg(long, env = "WEIR_SELF_MONITORING_INTERVAL", value_name = "DURATION", default_value = "5s", value_parser = config::duration)]
    pub self_monitoring_interval: Duration,

    /// The label instance of its own metrics, such as the name of the pod; the address that it listens on where it is not given
    #[arg(long, env = "WEIR_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,

    /// How long requests are still taken after SIGTERM while /ready says no, so that whoever balances load has looked elsewhere
    #[arg(long, env = "WEIR_DRAIN_DELAY", value_name = "DURATION", default_value = "0s", value_parser = config::duration)]
    pub drain_delay: Duration,

    /// How much memory the process may have.
    #[command(flatten)]
    pub memory: memory::Args,

    /// How logs are written.
    #[command(flatten, next_help_heading = "Logs")]
    pub logs: logs::Args,
}

/// A process that is starting: what a component is given, and where it is put.
pub struct Starting<'a> {
    /// For the metrics of the component.
    pub registry: Registry,
    /// Where the process listens.
    pub address: SocketAddr,
    /// The token between components, where there is one.
    pub token: Option<Token>,
    /// The memory that the process may have.
    pub memory: Limit,
    stages: &'a mut Stages,
    router: Router,
}

impl Starting<'_> {
    /// For the component that is started next.
    pub fn shutdown(&mut self) -> Shutdown {
        self.stages.shutdown()
    }

    /// Takes the component that got the last [`Starting::shutdown`]; its routes are served once the process is ready.
    pub fn push(&mut self, component: Component) {
        let routes = self.stages.push(component);
        self.router = std::mem::take(&mut self.router).merge(routes);
    }

    /// Runs something that is no component; it is stopped after all that is started later.
    pub fn task<F>(&mut self, name: &'static str, run: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.stages.task(name, run);
    }
}

/// Runs the component until a signal asks to stop, or it cannot go on. `component` is its name, as in `job="weir/<component>"`.
pub fn run<S>(component: &'static str, version: &str, args: Args, start: S) -> ExitCode
where
    S: AsyncFnOnce(&mut Starting<'_>) -> Result<(), Failure>,
{
    memory::take_small_pages();
    // Fails only where one is installed, and nothing was before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(component, &format!("starting threads: {error}")),
    };
    if let Err(reason) = logs::init(&args.logs) {
        return failed(component, &reason);
    }
    let mut page = Page::default();
    let registry = page.add(component);
    let (routes, delay) = (Routes::starting(&page), args.drain_delay);
    let process = Process { component, version, page, registry, routes: routes.clone() };
    let drain = async || {
        routes.drain();
        tokio::time::sleep(delay).await;
    };
    let code = runtime.block_on(supervise(async |stages| process.serve(args, stages, start).await, drain));
    runtime.shutdown_timeout(LAST_THREADS);
    code.unwrap_or_else(|error| failed(component, &error.to_string()))
}

/// Starts, waits for a signal or a part that cannot go on, and stops what was started; the exit status for that. `drain` comes between a
/// signal and the stop. Fails where signals cannot be waited for.
pub async fn supervise<S, D>(start: S, drain: D) -> Result<ExitCode, Error>
where
    S: AsyncFnOnce(&mut Stages) -> Result<(), Failure>,
    D: AsyncFnOnce(),
{
    let mut signals = Signals::new().map_err(|e| Error::System(format!("waiting for signals: {e}")))?;
    let mut stages = Stages::default();
    let served = async {
        start(&mut stages).await?;
        Err::<&str, Failure>(stages.first_failure().await.into())
    };
    let ended = tokio::select! {
        failed = served => failed,
        signal = signals.next() => Ok(signal),
    };
    // Said in the log, where whoever runs a server looks; the rest is the exit status.
    match &ended {
        Ok(signal) => tracing::info!("{signal}: stopping; what is acknowledged is on disk"),
        Err(error) => tracing::error!("stopping: {}", chain(&**error)),
    }
    let stop = async {
        if ended.is_ok() {
            drain().await;
        }
        stages.stop().await
    };
    tokio::select! {
        stopped = stop => Ok(if ended.is_ok() && stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _ = signals.next() => {
            tracing::warn!("a second signal: ending at once");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// What a process has from its first moment.
struct Process<'a> {
    component: &'static str,
    version: &'a str,
    page: Page,
    registry: Registry,
    routes: Routes,
}

impl Process<'_> {
    async fn serve<S>(self, args: Args, stages: &mut Stages, start: S) -> Result<(), Failure>
    where
        S: AsyncFnOnce(&mut Starting<'_>) -> Result<(), Failure>,
    {
        let Process { component, version, page, registry, routes } = self;
        metrics::register_process(&registry, version)?;
        let memory = Limit::of(&args.memory);
        memory.tell_allocator();
        memory.tell(&registry)?;
        let token = args.token_file.as_deref().map(Token::read).transpose()?;
        let (socket, address) = listener::bind(&args.listen).await.map_err(Error::System)?;
        let (instance, interval) =
            (args.instance.unwrap_or_else(|| address.to_string()), args.self_monitoring_interval);
        let monitoring = match args.self_monitoring_url.filter(|_| !interval.is_zero()) {
            Some(url) => Some(SelfMonitoring::new(page.clone(), &url, instance, interval, &registry)?),
            None => None,
        };
        // For people, and for programs that gave port 0.
        let mut out = io::stdout();
        writeln!(out, "weir-{component} {version} listens on http://{address}").and_then(|()| out.flush())?;

        let (early, own) = (routes.clone(), registry.clone());
        stages.serve(|shutdown| async move { Ok(listener::serve(socket, early, &own, shutdown).await?) });
        if let Some(token) = token.clone() {
            let own = registry.clone();
            stages.task("token", |shutdown| token.follow(own, shutdown));
        }
        // Begun before the component is ready: one that reads a long log at its start is not a silent one.
        if let Some(monitoring) = monitoring {
            stages.task("self-monitoring", |shutdown| monitoring.run(shutdown));
        }
        let mut starting =
            Starting { registry: registry.clone(), address, token, memory, stages, router: Router::new() };
        start(&mut starting).await?;
        routes.ready(&page, starting.router, &registry)?;
        tracing::info!("ready at http://{address}");
        Ok(())
    }
}

/// The name of the machine, as it gives it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Says why it did not go well.
fn failed(component: &str, reason: &str) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "weir-{component}: {reason}");
    ExitCode::FAILURE
}
