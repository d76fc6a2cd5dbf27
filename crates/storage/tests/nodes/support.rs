//! A log, storage nodes that read it, and what a test does with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use model::{
    Cancel, Cardinality, CardinalityRequest, Columns, Exemplar, ExemplarsRequest, Kind, Labels, LabelsRequest, Listing,
    Matcher, Metadata, Positions, Sample, SelectRequest, Series, SeriesData, SeriesExemplars, SeriesSet, SeriesSource,
    SourceError, TimeRange, Want,
};
use prometheus::Registry;
use queue::payload::Encoder;
use queue::{BoxFuture, Log};
use runtime::metrics::Page;
use runtime::{Routes, Shutdown, ShutdownTrigger, Token, listener};
use storage::objects::Keys;
use storage::reader::{FanOut, Remote};
use storage::serve::{self, Node};
use storage::{Changes, ChangesRequest, Reader, Replica};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longest wait for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Partitions of the log, as by default.
pub(crate) const PARTITIONS: u32 = 4;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    queue: queue::Args,
    #[command(flatten)]
    storage: storage::Args,
}

fn arguments(flags: &[String]) -> Cli {
    let none = ["test".to_owned(), "--retention".to_owned(), "off".to_owned()];
    Cli::parse_from(none.iter().chain(flags))
}

/// The groups that hold records of the log back, as the flag says.
pub(crate) fn holding_groups(flag: &str) -> Result<Vec<String>, clap::Error> {
    Cli::try_parse_from(["test", flag]).map(|cli| cli.queue.holding_groups)
}

/// A log in a directory, and the directories of the nodes beside it.
pub(crate) struct Bed {
    dir: TempDir,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) kafka: Option<SocketAddr>,
    _queue: (ShutdownTrigger, runtime::Component),
}

/// A storage that reads the log.
pub(crate) struct Storage {
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) node: Node,
    pub(crate) registry: Registry,
    trigger: ShutdownTrigger,
    component: runtime::Component,
}

/// Something that is served on a port.
pub(crate) struct Served {
    pub(crate) url: String,
    pub(crate) registry: Registry,
    trigger: ShutdownTrigger,
    done: JoinHandle<()>,
}

impl Bed {
    pub(crate) async fn new() -> Bed {
        Bed::start(None, &[]).await
    }

    /// Whose log is started with these flags.
    pub(crate) async fn with_log(flags: &[&str]) -> Bed {
        Bed::start(None, flags).await
    }

    /// Served by the Kafka protocol too, to those who have the token of a file.
    pub(crate) async fn served(token: &Path) -> Bed {
        Bed::start(Some(Token::read(token).expect("a token")), &[]).await
    }

    async fn start(token: Option<Token>, flags: &[&str]) -> Bed {
        let dir = tempfile::tempdir().expect("directory");
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut args = arguments(&flags).queue;
        args.dir = dir.path().join("queue");
        args.kafka = token.is_some().then(|| "127.0.0.1:0".to_owned());
        args.token = token;
        let (trigger, shutdown) = Shutdown::new();
        let started = queue::start(args, queue::Deps::default(), &Registry::new(), shutdown).await.expect("log opens");
        Bed { dir, log: started.log, kafka: started.kafka, _queue: (trigger, started.component) }
    }

    /// A replica over its own directory.
    pub(crate) async fn storage(&self, replica: Replica) -> Result<Storage, storage::Error> {
        self.storage_in(&format!("storage-{}", replica.number), replica).await
    }

    pub(crate) async fn storage_in(&self, dir: &str, replica: Replica) -> Result<Storage, storage::Error> {
        self.storage_with(dir, replica, &[], None).await
    }

    /// With further flags, and the keys of an object storage.
    pub(crate) async fn storage_with(
        &self,
        dir: &str,
        replica: Replica,
        more: &[String],
        keys: Option<Keys>,
    ) -> Result<Storage, storage::Error> {
        let flag = |name: &str, n: u32| format!("--storage-{name}={n}");
        let flags = [flag("replica", replica.number), flag("replicas", replica.of), flag("copies", replica.copies)];
        let mut args = arguments(&[&flags, more].concat()).storage;
        args.dir = self.dir.path().join(dir);
        args.objects.keys = keys;
        let (trigger, shutdown) = Shutdown::new();
        let registry = Registry::new();
        let started = storage::start(args, storage::Deps { log: self.log.clone() }, &registry, shutdown).await?;
        let node = started.node();
        Ok(Storage { reader: started.reader, node, registry, trigger, component: started.component })
    }

    /// The directory of a node is lost.
    pub(crate) fn empty(&self, dir: &str) {
        std::fs::remove_dir_all(self.dir.path().join(dir)).expect("removed");
    }

    /// Makes a record of samples durable.
    pub(crate) async fn write(&self, labels: &Labels, samples: &[Sample]) {
        let mut encoder = Encoder::new();
        encoder.push(labels.as_ref(), samples);
        self.append(labels.as_ref().partition(PARTITIONS), encoder).await;
    }

    pub(crate) async fn write_metadata(&self, partition: u32, metadata: &Metadata) {
        let mut encoder = Encoder::new();
        encoder.push_metadata(metadata);
        self.append(partition, encoder).await;
    }

    pub(crate) async fn write_exemplars(&self, labels: &Labels, exemplars: &[Exemplar]) {
        let mut encoder = Encoder::new();
        encoder.push_exemplars(labels.as_ref(), exemplars);
        self.append(labels.as_ref().partition(PARTITIONS), encoder).await;
    }

    async fn append(&self, partition: u32, mut encoder: Encoder) {
        self.log.append(partition, encoder.finish(), 1).await.expect("acknowledged");
    }
}

impl Storage {
    pub(crate) async fn stop(self) {
        self.trigger.ask();
        self.component.drained.await.expect("storage drains");
    }
}

/// Serves a node; the token is what it asks for.
pub(crate) async fn serve(node: Node, token: Option<Token>) -> Served {
    serve_at("127.0.0.1:0", node, token).await
}

pub(crate) async fn serve_at(address: &str, node: Node, token: Option<Token>) -> Served {
    serve_as(address, node, token, |routes| routes).await
}

/// Serves a node with other routes than it has.
pub(crate) async fn serve_as(
    address: &str,
    node: Node,
    token: Option<Token>,
    change: impl FnOnce(axum::Router) -> axum::Router,
) -> Served {
    let mut page = Page::default();
    let registry = page.add("storage");
    let routes = Routes::starting(&page);
    let router = change(serve::router(node, token, &registry).expect("serves"));
    routes.ready(&page, router, &registry).expect("ready");
    let (trigger, shutdown) = Shutdown::new();
    let (socket, address) = listener::bind(address).await.expect("bound");
    let own = registry.clone();
    let done = tokio::spawn(async move { listener::serve(socket, routes, &own, shutdown).await.expect("serves") });
    Served { url: format!("http://{address}"), registry, trigger, done }
}

impl Served {
    /// Nobody listens there any more when this returns.
    pub(crate) async fn stop(self) {
        self.trigger.ask();
        self.done.await.expect("ends");
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        metric(&self.registry, name)
    }
}

pub(crate) fn metric(registry: &Registry, name: &str) -> f64 {
    let family = registry.gather().into_iter().find(|f| f.name() == name).expect("registered");
    family.get_metric().iter().map(|m| m.get_counter().get_value() + m.get_gauge().get_value()).sum()
}

pub(crate) fn install_crypto() {
    // Only the first of the tests installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn remote(url: &str, token: Option<Token>) -> Remote {
    install_crypto();
    Remote::with_changes_timeout(url, token, PATIENCE, &Registry::new()).expect("an address")
}

pub(crate) fn fan_out(urls: &[String], copies: u32) -> FanOut {
    install_crypto();
    FanOut::with_changes_timeout(urls, copies, None, PATIENCE, &Registry::new()).expect("addresses")
}

/// Nodes of a cluster, with those who serve them.
pub(crate) struct Cluster {
    _storages: Vec<Storage>,
    pub(crate) served: Vec<Option<Served>>,
    pub(crate) urls: Vec<String>,
    pub(crate) reader: Arc<FanOut>,
}

impl Cluster {
    pub(crate) async fn start(bed: &Bed, of: u32, copies: u32) -> Cluster {
        let (mut storages, mut served, mut urls) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..of {
            let storage = bed.storage(Replica { number, of, copies }).await.expect("starts");
            let serving = serve(storage.node.clone(), None).await;
            urls.push(serving.url.clone());
            served.push(Some(serving));
            storages.push(storage);
        }
        let reader = Arc::new(fan_out(&urls, copies));
        Cluster { _storages: storages, served, urls, reader }
    }

    /// The node does not listen any more.
    pub(crate) async fn take_down(&mut self, number: usize) {
        self.served[number].take().expect("it is up").stop().await;
    }
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).expect("valid")
}

/// Series number n of a test.
pub(crate) fn series(n: usize) -> Labels {
    labels(&[("__name__", "m"), ("n", &n.to_string())])
}

pub(crate) fn request(matchers: Vec<Matcher>, range: TimeRange, want: Want) -> SelectRequest {
    SelectRequest { matchers, range, want, series_max: 1_000_000, cancel: Cancel::default() }
}

/// Everything with the name `m`.
pub(crate) fn everything() -> SelectRequest {
    request(vec![Matcher::equal("__name__", "m")], TimeRange::ALL, Want::Samples)
}

/// Calls what blocks away from the runtime's threads.
pub(crate) async fn blocking<R: Reader + ?Sized, T: Send + 'static>(
    reader: &Arc<R>,
    call: impl FnOnce(&R) -> T + Send + 'static,
) -> T {
    let reader = reader.clone();
    tokio::task::spawn_blocking(move || call(&reader)).await.expect("does not panic")
}

/// Samples by series, values as bits.
pub(crate) type Samples = BTreeMap<Labels, Vec<(i64, u64)>>;

/// Reads every series of an answer in a range, and fails where a label set is there twice.
pub(crate) fn read(set: SeriesSet, range: TimeRange) -> Result<Samples, SourceError> {
    let mut out = Samples::new();
    for series in set.series {
        let mut columns = Columns::default();
        series.data.read(range, &mut columns)?;
        assert!(columns.t.is_sorted_by(|a, b| a < b), "{} does not ascend", series.labels);
        let samples = columns.t.into_iter().zip(columns.v.into_iter().map(f64::to_bits)).collect();
        assert!(out.insert(series.labels.clone(), samples).is_none(), "{} is there twice", series.labels);
    }
    Ok(out)
}

/// Everything with the name `m` that is acknowledged, with the warnings.
pub(crate) async fn select<R: Reader + ?Sized>(reader: &Arc<R>) -> Result<(Samples, Vec<String>), SourceError> {
    reader.caught_up(PATIENCE).await?;
    blocking(reader, |reader| {
        let set = reader.select(&everything())?;
        let warnings = set.warnings.clone();
        Ok((read(set, TimeRange::ALL)?, warnings))
    })
    .await
}

/// A reader that does what a test wants.
pub(crate) struct Fake {
    series: Vec<(Labels, Columns)>,
    /// It does not catch up.
    pub(crate) stuck: AtomicBool,
    /// Reading samples fails.
    pub(crate) corrupt: AtomicBool,
    /// Reading the samples of the last series panics.
    pub(crate) panics: AtomicBool,
    /// A select waits until it is cancelled, and so does a question for changes.
    pub(crate) holds: AtomicBool,
    /// How often it was asked what changed.
    pub(crate) asked_for_changes: AtomicUsize,
    held: watch::Sender<usize>,
}

struct Data {
    columns: Columns,
    corrupt: bool,
    panics: bool,
}

impl SeriesData for Data {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        assert!(!self.panics, "on purpose");
        if self.corrupt {
            return Err(SourceError { kind: Kind::Corrupt, message: "block 7 is bad".to_owned() });
        }
        for (t, v) in self.columns.t.iter().zip(&self.columns.v).filter(|(t, _)| range.contains(**t)) {
            out.push(*t, *v);
        }
        Ok(())
    }
}

impl Fake {
    /// With so many series of a thousand samples.
    pub(crate) fn large(number: usize) -> Fake {
        let samples: Vec<(i64, f64)> = (0..1000).map(|t| (t, (t as f64).sqrt())).collect();
        let one = Fake::new(&samples);
        let columns = &one.series[0].1;
        let series = (0..number).map(|n| (series(n), columns.clone())).collect();
        Fake { series, ..one }
    }

    /// With one series.
    pub(crate) fn new(samples: &[(i64, f64)]) -> Fake {
        let columns = Columns::floats(samples.iter().map(|s| s.0).collect(), samples.iter().map(|s| s.1).collect());
        let no = || AtomicBool::new(false);
        Fake {
            series: vec![(series(1), columns)],
            stuck: no(),
            corrupt: no(),
            panics: no(),
            holds: no(),
            asked_for_changes: AtomicUsize::new(0),
            held: watch::Sender::new(0),
        }
    }

    /// Resolves once so many selects wait.
    pub(crate) async fn until_held(&self, number: usize) {
        let mut held = self.held.subscribe();
        let reached = tokio::time::timeout(PATIENCE, held.wait_for(|held| *held == number)).await;
        reached.expect("in time").expect("the sender lives");
    }
}

impl SeriesSource for Fake {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        if self.holds.load(Ordering::SeqCst) {
            self.held.send_modify(|held| *held += 1);
            while !request.cancel.is_cancelled() {
                // What is cancelled tells nobody, and those who look all the time leave the others nothing.
                std::thread::sleep(Duration::from_millis(1));
            }
            self.held.send_modify(|held| *held -= 1);
            return Err(SourceError::cancelled());
        }
        let (corrupt, panics) = (self.corrupt.load(Ordering::SeqCst), self.panics.load(Ordering::SeqCst));
        let last =
            self.series.iter().map(|(labels, _)| labels).max_by_key(|labels| labels.canonical()).expect("has one");
        let series = self.series.iter().map(|(labels, columns)| Series {
            labels: labels.clone(),
            data: Box::new(Data { columns: columns.clone(), corrupt, panics: panics && labels == last }),
        });
        Ok(SeriesSet { series: series.collect(), ..SeriesSet::default() })
    }

    fn label_names(&self, _: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        Ok(Vec::new().into())
    }

    fn label_values(&self, _: &str, _: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        Ok(Vec::new().into())
    }

    fn metadata(&self, _: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        Ok(Vec::new().into())
    }
}

impl Reader for Fake {
    fn caught_up(&self, timeout: Duration) -> BoxFuture<'_, Result<(), SourceError>> {
        Box::pin(async move {
            if self.stuck.load(Ordering::SeqCst) {
                tokio::time::sleep(timeout).await;
                return Err(SourceError { kind: Kind::Unavailable, message: "behind".to_owned() });
            }
            Ok(())
        })
    }

    fn reached<'a>(&'a self, _: &'a Positions, timeout: Duration) -> BoxFuture<'a, Result<(), SourceError>> {
        self.caught_up(timeout)
    }

    fn backlog(&self) -> u64 {
        0
    }

    fn cardinality(&self, _: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        Ok(Cardinality::default())
    }

    fn exemplars(&self, _: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        Ok(Vec::new().into())
    }

    fn changes(&self, request: &ChangesRequest) -> Changes {
        self.asked_for_changes.fetch_add(1, Ordering::SeqCst);
        while self.holds.load(Ordering::SeqCst) && !request.cancel.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Changes { mark: Some(vec![(7, 1)].into()), ranges: Vec::new() }
    }
}
