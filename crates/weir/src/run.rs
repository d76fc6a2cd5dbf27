//! `weir run`: every component in one process, on one port. The whole wiring is [`start`]; the rest is how it ends.

mod greeting;

use std::process::ExitCode;

use anyhow::Context as _;
use model::Budget;
use prometheus::Registry;
use runtime::memory::{self, Limit, Part};
use runtime::metrics::Page;
use runtime::{Routes, Stages, Token, listener, process};

use crate::cli::RunArgs;
use crate::self_monitoring::SelfMonitoring;

/// Runs until a signal asks to stop, or a component cannot go on.
pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    runtime::logs::init(&args.logs).map_err(anyhow::Error::msg)?;
    Ok(process::supervise(async |stages| Ok(start(args, stages).await?), async || {}).await?)
}

/// The registries of the components, in the order of the data.
struct Registries {
    page: Page,
    runtime: Registry,
    ingest: Registry,
    queue: Registry,
    storage: Registry,
    query: Registry,
    alerting: Registry,
}

impl Registries {
    fn new() -> Self {
        let mut page = Page::default();
        let [runtime, ingest, queue, storage, query, alerting] =
            ["runtime", "ingest", "queue", "storage", "query", "alerting"].map(|name| page.add(name));
        Registries { page, runtime, ingest, queue, storage, query, alerting }
    }
}

/// The memory of the process, told to whom it concerns.
fn limit(args: &memory::Args, registry: &Registry) -> Result<Limit, prometheus::Error> {
    let limit = Limit::of(args);
    limit.tell_allocator();
    limit.tell(registry)?;
    Ok(limit)
}

/// What query shows of this process.
fn about(storage: &storage::Args, limit: &Limit) -> query::About {
    let (admin_api, retention) = (storage.enable_admin_api, storage.retention_text());
    query::About { admin_api, retention, memory_bytes_max: limit.bytes }
}

/// Reads the names of features, and tells what each does.
fn features(names: &str) -> anyhow::Result<promql::Features> {
    let features = promql::Features::from_names(names).map_err(anyhow::Error::msg)?;
    for (feature, what) in promql::Features::told(names) {
        tracing::info!(feature, "{what}");
    }
    Ok(features)
}

/// Starts one component after the other, in the order of who needs whom.
async fn start(args: RunArgs, stages: &mut Stages) -> anyhow::Result<()> {
    let features = features(&args.enable_feature)?;
    let token = args.token_file.as_deref().map(Token::read).transpose()?;
    let registries = Registries::new();
    let Registries { page, runtime: own, .. } = &registries;
    runtime::metrics::register_process(own, env!("CARGO_PKG_VERSION"))?;
    let limit = limit(&args.memory, own)?;
    let shares = limit.shares(&storage::memory_parts(&Part::ALL, &args.storage));
    let whole = Budget::new("the process", shares.all());
    let (listener, address) = listener::bind(&args.listen).await.map_err(anyhow::Error::msg)?;
    greeting::listening(address)?;
    // Served before there is anything to answer with, so that probes and people see a process that is starting.
    let routes = Routes::starting(page);
    let (early, registry) = (routes.clone(), own.clone());
    stages.serve(|shutdown| async move { Ok(listener::serve(listener, early, &registry, shutdown).await?) });

    if let Some(token) = token.clone() {
        let registry = own.clone();
        stages.task("token", |shutdown| token.follow(registry, shutdown));
    }

    let memory = storage::Memory::of(&whole, &shares);
    let queue_args = queue::Args { dir: args.data.join("queue"), memory: memory.log.clone(), ..args.queue };
    let queue = queue::start(queue_args, queue::Deps {}, &registries.queue, stages.shutdown()).await;
    let queue = queue.context("starting the queue")?;
    let (mut router, log) = (stages.push(queue.component), queue.log);

    if args.storage.storage_replicas != 1 {
        anyhow::bail!(
            "--storage-replicas: weir run is one process that has everything; replicas are processes of weir-storage"
        );
    }
    let about = about(&args.storage, &limit);
    let sample_age_max_ms = args.storage.retention_rules.longest(args.storage.retention);
    let storage_args = storage::Args { dir: args.data.join("storage"), features, memory, ..args.storage };
    let deps = storage::Deps { log: log.clone() };
    let storage = storage::start(storage_args, deps, &registries.storage, stages.shutdown()).await;
    let storage = storage.context("starting storage")?;
    let reader = storage.reader;
    router = router.merge(stages.push(storage.component));

    let memory = whole.part("queries", shares.of(Part::Queries));
    let query_args = query::Args { features, memory, ..args.query };
    let deps = query::Deps { reader: reader.clone(), front_door: query::FrontDoor::default(), about };
    let query = query::start(query_args, deps, &registries.query, stages.shutdown()).await;
    let query = query.context("starting query")?;
    router = router.merge(stages.push(query.component));

    let external_url = args.alerting_external_url_is_given.then_some(args.alerting.alerting_external_url);
    let alerting_args = alerting::Args {
        dir: args.data.join("alerting"),
        features,
        memory: whole.part("alerting", shares.of(Part::Alerting)),
        seed: runtime::clock::now_ms().unsigned_abs() ^ u64::from(std::process::id()).rotate_left(32),
        alerting_external_url: external_url.unwrap_or_else(|| format!("http://{address}")),
        ..args.alerting
    };
    let deps = alerting::Deps { log: log.clone(), reader, token, open: true };
    let alerting = alerting::start(alerting_args, deps, &registries.alerting, stages.shutdown()).await;
    router = router.merge(query.presentation.of(stages.push(alerting.context("starting alerting")?.component)));

    // What would expire at once is refused when it comes.
    let memory = whole.part("write requests", shares.of(Part::Ingest));
    let ingest_args = ingest::Args { sample_age_max_ms, memory, ..args.ingest };
    let ingest = ingest::start(ingest_args, ingest::Deps { log }, &registries.ingest, stages.shutdown()).await;
    let ingest = ingest.context("starting ingest")?;
    router = router.merge(stages.push(ingest.component));

    routes.ready(page, router, own)?;
    tracing::info!("ready at http://{address}");
    let interval = args.self_monitoring_interval;
    if !interval.is_zero() {
        let monitoring = SelfMonitoring::new(page.clone(), ingest.writer, address, own)?;
        stages.task("self-monitoring", |shutdown| monitoring.run(interval, shutdown));
        stages.task("greeting", |shutdown| greeting::summary(address, shutdown));
    }
    Ok(())
}
