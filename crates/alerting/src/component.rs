//! Wires the parts to a component.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Labels;
use prometheus::Registry;
use queue::{Lag, Log};
use runtime::memory::{Part, Told, register_part};
use runtime::metrics::{Disk, register_asked, register_bounds, register_disk};
use runtime::{Component, Shutdown, Token, clock, token};
use storage::Reader;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::api::{self, Api};
use crate::consume::Consumer;
use crate::delivery::{self, Channels, Delivery, Pace};
use crate::engine::{self, Engine, First, Parts};
use crate::evaluate::Setting;
use crate::metrics::Metrics;
use crate::reload::{self, Reloader};
use crate::rulesets::{self, RuleSets};
use crate::store::{OUTBOX_MAX, RestoredSet, Store, Stored};
use crate::view::View;
use crate::{Args, Error, consume, webhook};

/// Batches of records that wait for the engine: with the bytes of a fetch, some eight megabytes.
const MESSAGES_MAX: usize = 8;
/// Requests for a reload that wait.
const RELOADS_MAX: usize = 4;
/// Rule sets that wait to be taken; as many as are read at a time.
const HANDOVERS_MAX: usize = 2;

/// What alerting needs of others.
pub struct Deps {
    /// The log that it consumes.
    pub log: Arc<dyn Log>,
    /// Storage, from which windows are read at start and long ones always.
    pub reader: Arc<dyn Reader>,
    /// What callers must show; `None` where there is no token.
    pub token: Option<Token>,
    /// Whether people may ask without the token, where no front door is before it. Rule sets are handed over with it anyway.
    pub open: bool,
}

/// A started component.
#[derive(Debug)]
pub struct Started {
    /// Its routes and its end.
    pub component: Component,
}

/// Opens the database, reads the rules, fills their windows and begins to consume. Returns once every rule is in use; bad rules do
/// not keep it from starting. A TLS provider must be installed in the process.
///
/// `drained` resolves once the positions are written and what was being sent is answered; with an error at once when the
/// database or the log fails for good.
pub async fn start(args: Args, deps: Deps, registry: &Registry, shutdown: Shutdown) -> Result<Started, Error> {
    start_paced(args, deps, registry, shutdown, Pace::DEFAULT).await
}

pub(crate) async fn start_paced(
    args: Args,
    deps: Deps,
    registry: &Registry,
    shutdown: Shutdown,
    pace: Pace,
) -> Result<Started, Error> {
    let metrics = Metrics::new(registry)?;
    let store = Store::open(&args.dir)?;
    let (positions, stored) = restore(deps.log.as_ref(), &store, &metrics).await?;
    let lag = Arc::new(Lag::new(Arc::clone(&deps.log), positions.clone()));
    register(registry, &args, &lag)?;
    let external_url: Arc<str> = args.alerting_external_url.trim_end_matches('/').into();
    let mut engine = engine(&args, &external_url, deps.log.partitions());
    engine.restore(stored);
    let (view, channels, more) = (View::default(), Channels::new(metrics.deliveries.clone()), Arc::new(Notify::new()));
    let client = webhook::client().map_err(|e| Error::Invalid(format!("HTTP client: {e}")))?;
    let (handed, told) = (store.handed().await?, store.told().await?);
    let (reloader, sets, first) = read(&args, handed, &metrics, &channels).await?;
    let delivery = Delivery {
        store: store.clone(),
        channels: channels.clone(),
        view: view.clone(),
        client,
        external_url,
        pace,
        seed: args.seed,
        metrics: metrics.clone(),
        more: Arc::clone(&more),
        at_once_max: args.alerting_deliveries_max,
    };
    let (to_engine, messages) = mpsc::channel(MESSAGES_MAX);
    let (reload, reloads) = mpsc::channel(RELOADS_MAX);
    let (to_sets, asked) = mpsc::channel(HANDOVERS_MAX);
    let mut tasks: JoinSet<Result<(), Error>> = JoinSet::new();
    Consumer::new(&deps.log, &to_engine, &metrics, &lag).spawn(&positions, &mut tasks, &shutdown);
    let handover = rulesets::Parts {
        store: store.clone(),
        channels: channels.clone(),
        reader: Arc::clone(&deps.reader),
        engine: to_engine.clone(),
        more: Arc::clone(&more),
    };
    let (shown, features) = (channels.clone(), args.features);
    let parts = Parts {
        log: deps.log,
        reader: deps.reader,
        store: store.clone(),
        channels,
        view: view.clone(),
        metrics,
        more,
        positions,
        lag,
    };
    let (ready, is_ready) = oneshot::channel();
    let (handle, stop) = (Handle::current(), shutdown.clone());
    tasks.spawn_blocking(move || engine::run(engine, parts, first, ready, messages, stop, handle));
    tasks.spawn(delivery::run(delivery, shutdown.clone()));
    let holdings = sets.holdings();
    tasks.spawn(rulesets::run(sets, asked, handover, shutdown.clone()));
    tasks.spawn(reload::run(reloader, reloads, to_engine, shutdown));
    if is_ready.await.is_err() {
        // The engine ended before it was ready; its error says why.
        drain(tasks, store).await?;
        return Err(Error::Stopped("the engine ended at its start"));
    }
    view.restore(told);
    // Whatever differs between runs.
    let epoch = format!("{:x}-{:x}", clock::now_ms(), args.seed);
    let handover = rulesets::Api::new(view.clone(), holdings, to_sets, epoch.into());
    let asked = api::router(Api { view, channels: shown, store: store.clone(), reload, features });
    let asked = token::require(deps.token.clone().filter(|_| !deps.open), asked);
    let router = asked.merge(token::require(deps.token, rulesets::router(handover)));
    let drained = Box::pin(async move { drain(tasks, store).await.map_err(Into::into) });
    Ok(Started { component: Component { name: "alerting", router, drained } })
}

/// Registers what is asked for at each reading of the metrics, and the bounds.
fn register(registry: &Registry, args: &Args, lag: &Arc<Lag>) -> Result<(), Error> {
    let names = Disk { free: "weir_alerting_disk_free_bytes", size: "weir_alerting_disk_size_bytes" };
    register_disk(registry, names, &args.dir)?;
    // What has the log stops when alerting does.
    let lag = Arc::downgrade(lag);
    register_asked(
        registry,
        "weir_alerting_lag_seconds",
        "Age of the oldest record that rules have not seen, 0 where they have seen all.",
        move || Some(lag.upgrade()?.ms(clock::now_ms()) as f64 / 1e3),
    )?;
    let memory = args.memory.clone();
    register_part(registry, Part::Alerting, move || Told {
        bytes_max: memory.bytes_max(),
        held: memory.held(),
        peak: memory.peak(),
        refused: memory.refused(),
    })?;
    register_bounds(
        registry,
        &[
            (
                "weir_alerting_window_bytes_max",
                "Bound of weir_alerting_window_bytes; beyond it, rules are evaluated over storage.",
                args.window_bytes_max() as u64,
            ),
            (
                "weir_alerting_outbox_notifications_max",
                "Bound of weir_alerting_outbox_notifications; more become dead letters.",
                OUTBOX_MAX.unsigned_abs(),
            ),
            (
                "weir_alerting_running_deliveries_max",
                "Deliveries that may be under way; others wait in the outbox.",
                args.alerting_deliveries_max as u64,
            ),
            (
                "weir_alerting_channels_counted_max",
                "Channels whose deliveries are counted apart; others count as one.",
                delivery::CHANNELS_MAX as u64,
            ),
            (
                "weir_alerting_documents_max",
                "Rules, and channels, that one rule set may have; a larger one is refused.",
                rulesets::DOCUMENTS_MAX as u64,
            ),
        ],
    )?;
    Ok(())
}

/// Where each partition is read from, and what was stored.
async fn restore(log: &dyn Log, store: &Store, metrics: &Metrics) -> Result<(BTreeMap<u32, i64>, Stored), Error> {
    if let Some(id) = log.id() {
        let id = format!("{id:032x}");
        if store.follow(id.clone()).await? {
            tracing::warn!(log = id, "this is another log than the one that was read before; reading all of it");
        }
    }
    let (committed, stored) = store.restore().await?;
    let mut positions = BTreeMap::new();
    for partition in 0..log.partitions() {
        let committed = committed.get(&partition).copied();
        positions.insert(partition, consume::begin(log, partition, committed, metrics).await?);
    }
    Ok((positions, stored))
}

fn engine(args: &Args, external_url: &str, partitions: u32) -> Engine {
    let setting = Setting {
        memory: args.memory.clone(),
        features: args.features,
        external_labels: Labels::empty(),
        external_url: external_url.to_owned(),
        subquery_step_ms: crate::evaluate::SUBQUERY_STEP_MS,
    };
    let interval_ms = args.alerting_interval.as_millis() as i64;
    let window_max_ms = args.alerting_window_max.as_millis() as i64;
    Engine::new(setting, partitions, interval_ms, window_max_ms, args.window_bytes_max())
}

/// The rules of files, and those that were handed over before.
async fn read(
    args: &Args,
    handed: BTreeMap<String, RestoredSet>,
    metrics: &Metrics,
    channels: &Channels,
) -> Result<(Reloader, RuleSets, First), Error> {
    let (rules, features, metrics, channels) = (args.rules.clone(), args.features, metrics.clone(), channels.clone());
    let read = tokio::task::spawn_blocking(move || {
        let reloader = Reloader::new(rules, features, metrics.clone());
        let mut first = First { loaded: reloader.loaded().clone(), ..First::default() };
        let sets = RuleSets::restore(handed, features, metrics, &channels, &mut first);
        (reloader, sets, first)
    });
    read.await.map_err(|_| Error::Stopped("reading the rules panicked"))
}

/// Waits for all tasks, then closes the database. The first error ends the other tasks.
async fn drain(mut tasks: JoinSet<Result<(), Error>>, store: Store) -> Result<(), Error> {
    let mut outcome = Ok(());
    while let Some(done) = tasks.join_next().await {
        let done =
            done.unwrap_or_else(|e| if e.is_cancelled() { Ok(()) } else { Err(Error::Stopped("a task panicked")) });
        if done.is_err() && outcome.is_ok() {
            outcome = done;
            tasks.abort_all();
        }
    }
    store.close().await;
    outcome
}
