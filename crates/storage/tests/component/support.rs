//! A storage over a log, both in a directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use clap::Parser;
use model::{
    Cancel, Columns, Exemplar, ExemplarsRequest, Labels, Matcher, Sample, SelectRequest, SeriesSet, SourceError,
    TimeRange, Want,
};
use prometheus::Registry;
use queue::Log;
use queue::payload::Encoder;
use runtime::{Shutdown, ShutdownTrigger, Token};
use serde_json::Value;
use storage::Reader;
use tower::ServiceExt as _;

pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    queue: queue::Args,
    #[command(flatten)]
    storage: storage::Args,
    #[arg(long = "enable-feature", default_value = "")]
    features: String,
}

pub(crate) struct Running {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) reader: Arc<dyn Reader>,
    registry: Registry,
    pub(crate) storage: (ShutdownTrigger, runtime::Component),
    queue: (ShutdownTrigger, runtime::Component),
}

pub(crate) async fn start(dir: &Path, flags: &[&str]) -> Running {
    start_as(dir, flags, None).await
}

/// As a process of its own, which wants to be shown the token, if there is one.
pub(crate) async fn start_as(dir: &Path, flags: &[&str], token: Option<Token>) -> Running {
    try_start(dir, flags, token, None).await.expect("storage starts")
}

/// As [`start_as`], of a storage that may refuse to start.
pub(crate) async fn try_start(
    dir: &Path,
    flags: &[&str],
    token: Option<Token>,
    keys: Option<storage::objects::Keys>,
) -> Result<Running, storage::Error> {
    let Cli { mut queue, mut storage, features } = Cli::parse_from(["test"].iter().chain(flags));
    queue.dir = dir.join("queue");
    storage.dir = dir.join("storage");
    storage.objects.keys = keys;
    storage.features = promql::Features::from_names(&features).expect("known features");
    let (queue_trigger, shutdown) = Shutdown::new();
    let registry = Registry::new();
    let log = queue::start(queue, queue::Deps::default(), &Registry::new(), shutdown).await.expect("log opens");
    let (storage_trigger, shutdown) = Shutdown::new();
    let deps = storage::Deps { log: log.log.clone() };
    let started = match storage::start(storage, deps, &registry, shutdown).await {
        Ok(started) => started,
        Err(error) => {
            drop(log.log);
            queue_trigger.ask();
            log.component.drained.await.expect("log drains");
            return Err(error);
        }
    };
    let reader = started.reader.clone();
    let component = match token {
        None => started.component,
        token => started.serve(token, &registry).expect("serves"),
    };
    Ok(Running {
        log: log.log,
        reader,
        registry,
        storage: (storage_trigger, component),
        queue: (queue_trigger, log.component),
    })
}

impl Running {
    pub(crate) async fn stop(self) {
        self.storage.0.ask();
        self.storage.1.drained.await.expect("storage drains");
        drop((self.reader, self.log));
        self.queue.0.ask();
        self.queue.1.drained.await.expect("log drains");
    }

    pub(crate) async fn write(&self, t: i64, v: f64) {
        let labels = Labels::new(&[("__name__", "m"), ("t", &t.to_string())]).expect("valid");
        let mut encoder = Encoder::new();
        encoder.push(labels.as_ref(), &[Sample { t, v }]);
        let partition = labels.as_ref().partition(self.log.partitions());
        self.log.append(partition, encoder.finish(), t).await.expect("acknowledged");
    }

    /// Many records that are acknowledged together.
    pub(crate) async fn write_at_once(&self, times: std::ops::Range<i64>) {
        let times: Vec<i64> = times.collect();
        let appends = times.chunks(20).map(|times| {
            let mut encoder = Encoder::new();
            for t in times {
                let labels = Labels::new(&[("__name__", "m"), ("t", &t.to_string())]).expect("valid");
                encoder.push(labels.as_ref(), &[Sample { t: *t, v: *t as f64 }]);
            }
            self.log.append(0, encoder.finish(), 0)
        });
        futures_util::future::try_join_all(appends).await.expect("acknowledged");
    }

    /// Series with samples of which nothing can be compressed, some 8 bytes each.
    pub(crate) async fn write_noise(&self, series: u64, samples: i64) {
        let mut random = fastrand::Rng::with_seed(series);
        for n in 0..series {
            let labels = Labels::new(&[("__name__", "m"), ("noise", &n.to_string())]).expect("valid");
            let samples: Vec<Sample> = (0..samples).map(|t| Sample { t, v: random.f64() }).collect();
            let mut encoder = Encoder::new();
            encoder.push(labels.as_ref(), samples.as_slice());
            self.log.append(0, encoder.finish(), 0).await.expect("acknowledged");
        }
    }

    pub(crate) async fn read(&self) -> Vec<(i64, f64)> {
        self.try_read().await.expect("reads")
    }

    pub(crate) async fn try_read(&self) -> Result<Vec<(i64, f64)>, SourceError> {
        self.reader.caught_up(PATIENCE).await?;
        Self::samples_of(self.select()?)
    }

    /// What a query finds, before it reads samples.
    pub(crate) fn select(&self) -> Result<SeriesSet, SourceError> {
        self.reader.select(&SelectRequest {
            matchers: vec![Matcher::equal("__name__", "m")],
            range: TimeRange::ALL,
            want: Want::Samples,
            series_max: usize::MAX,
            cancel: Cancel::default(),
        })
    }

    pub(crate) fn samples_of(found: SeriesSet) -> Result<Vec<(i64, f64)>, SourceError> {
        let mut out = Vec::new();
        for series in found.series {
            let mut samples = Columns::default();
            series.data.read(TimeRange::ALL, &mut samples)?;
            out.extend(samples.t.into_iter().zip(samples.v));
        }
        out.sort_by(|(t, v), (u, w)| t.cmp(u).then(v.total_cmp(w)));
        Ok(out)
    }

    /// An exemplar of a series of its own.
    pub(crate) async fn write_exemplar(&self, t: i64) {
        let labels = Labels::new(&[("__name__", "m"), ("t", &t.to_string())]).expect("valid");
        let mut encoder = Encoder::new();
        encoder.push_exemplars(labels.as_ref(), &[Exemplar::new(t, 1.0, &[("trace", "x")]).expect("valid")]);
        let partition = labels.as_ref().partition(self.log.partitions());
        self.log.append(partition, encoder.finish(), t).await.expect("acknowledged");
    }

    /// The times of all exemplars.
    pub(crate) async fn exemplars(&self) -> Vec<i64> {
        self.reader.caught_up(PATIENCE).await.expect("catches up");
        let matcher_sets = vec![vec![Matcher::equal("__name__", "m")]];
        let cancel = Cancel::default();
        let request = ExemplarsRequest { matcher_sets, range: TimeRange::ALL, exemplars_max: usize::MAX, cancel };
        let found = self.reader.exemplars(&request).expect("answers");
        assert_eq!(found.warnings, [""; 0]);
        let mut times: Vec<i64> = found.items.iter().flat_map(|one| one.exemplars.iter().map(|e| e.t)).collect();
        times.sort_unstable();
        times
    }

    /// What its routes answer.
    pub(crate) async fn ask(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.storage.1.router.clone().oneshot(request).await.expect("a router always answers");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub(crate) fn metric(&self, name: &str) -> f64 {
        let family = self.registry.gather().into_iter().find(|f| f.name() == name).expect("registered");
        family.get_metric().iter().map(|m| m.get_counter().get_value() + m.get_gauge().get_value()).sum()
    }
}

pub(crate) const NO_RETENTION: &[&str] = &["--retention", "off"];
pub(crate) const ADMIN: &[&str] = &["--retention", "off", "--enable-admin-api"];
/// The type of a body with parameters.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
