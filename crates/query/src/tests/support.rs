//! A reader that keeps series in memory, and a router over it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use model::{
    Buckets, Cancel, Cardinality, CardinalityRequest, Columns, Counts, Exemplar, ExemplarsRequest, Histogram,
    HistogramSample, Kind, Labels, LabelsRequest, Layout, Listing, Matcher, Metadata, MetricType, Positions,
    SelectRequest, Series, SeriesData, SeriesExemplars, SeriesSet, SeriesSource, SourceError, Span, Tally, TimeRange,
};
use promql::Features;
use runtime::{Component, Shutdown, ShutdownTrigger};
use storage::{Changes, ChangesRequest, Mark, Reader};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{About, Args, Deps, FrontDoor, Presentation, Started};

/// The time of every request that names none.
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

/// What a `select` does besides answering.
#[derive(Debug, Default)]
pub(super) enum Behaviour {
    #[default]
    Answer,
    /// Answers with a warning.
    Warn,
    /// Says so on the first channel, and waits for a word on the second.
    Hold(mpsc::SyncSender<()>, mpsc::Receiver<()>),
    /// Says so, waits until it is cancelled, and says so.
    UntilCancelled(mpsc::SyncSender<&'static str>),
    Panic,
    Fail(Kind),
}

/// What is said with [`Behaviour::Warn`].
const WARNING: &str = "block 7 is in quarantine";

/// Series in memory.
pub(super) struct Memory {
    series: Mutex<Vec<(Labels, Columns)>>,
    metadata: Vec<Metadata>,
    exemplars: Vec<SeriesExemplars>,
    behaviour: Mutex<Behaviour>,
    /// Whether everything that was acknowledged can be seen.
    pub(super) caught_up: watch::Sender<bool>,
    pub(super) backlog: AtomicU64,
    /// Whether storage cannot be reached at all.
    pub(super) unreachable: AtomicBool,
    /// How it keeps account of what changes.
    pub(super) account: Account,
}

/// What is told of changes, and how often it is asked for.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Whether it is kept at all, and whether a read tells it too.
    pub(super) is_kept: AtomicBool,
    pub(super) marks_reads: AtomicBool,
    /// All changed when this does.
    pub(super) version: AtomicU64,
    pub(super) asked: AtomicU64,
    pub(super) selects: AtomicU64,
}

struct Data(Columns);

impl SeriesData for Data {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        for at in (0..self.0.len()).filter(|at| range.contains(self.0.t[*at])) {
            out.push_with_start(self.0.t[at], self.0.v[at], self.0.start(at));
        }
        out.histograms.extend(self.0.histograms.iter().filter(|h| range.contains(h.t)).cloned());
        Ok(())
    }
}

impl Memory {
    /// Two targets with `up`, one of which has a metric with an odd label, around [`NOW_MS`].
    pub(super) fn new() -> Self {
        let memory = Memory {
            series: Mutex::default(),
            metadata: vec![
                metadata("http_requests", MetricType::Counter, "Requests <all>", ""),
                metadata("http_requests", MetricType::Gauge, "Requests", "requests"),
                metadata("up", MetricType::Gauge, "", ""),
            ],
            exemplars: vec![
                SeriesExemplars {
                    series: Labels::new(&[("__name__", "disk.free"), ("a.b", "é\"")]).expect("valid"),
                    exemplars: vec![exemplar(NOW_MS, f64::INFINITY, &[])],
                },
                SeriesExemplars {
                    series: Labels::new(&[("__name__", "up"), ("job", "api")]).expect("valid"),
                    exemplars: vec![
                        exemplar(NOW_MS - 1500, 0.5, &[("trace_id", "4bf9"), ("span", "<\"7\">")]),
                        exemplar(NOW_MS, 1e21, &[]),
                    ],
                },
            ],
            behaviour: Mutex::default(),
            caught_up: watch::Sender::new(true),
            backlog: AtomicU64::new(0),
            unreachable: AtomicBool::new(false),
            account: Account::default(),
        };
        memory.add(
            &[("__name__", "up"), ("instance", "a:1"), ("job", "api")],
            &[(NOW_MS - 60_000, 0.0), (NOW_MS - 1, 1.0)],
        );
        memory.add(&[("__name__", "up"), ("instance", "b:1"), ("job", "<db>")], &[(NOW_MS - 1, 0.5)]);
        memory.add(&[("__name__", "disk.free"), ("a.b", "é\"")], &[(NOW_MS - 1, f64::INFINITY)]);
        memory
    }

    pub(super) fn add(&self, labels: &[(&str, &str)], samples: &[(i64, f64)]) {
        let columns = Columns::floats(samples.iter().map(|s| s.0).collect(), samples.iter().map(|s| s.1).collect());
        self.series.lock().expect("no test panics here").push((Labels::new(labels).expect("labels"), columns));
    }

    /// Adds a series whose samples say when their counting began.
    pub(super) fn add_with_starts(&self, labels: &[(&str, &str)], samples: &[(i64, f64, i64)]) {
        let mut columns = Columns::default();
        samples.iter().for_each(|(t, v, start)| columns.push_with_start(*t, *v, *start));
        self.series.lock().expect("no test panics here").push((Labels::new(labels).expect("labels"), columns));
    }

    /// Adds a series with one native histogram, and nothing else.
    pub(super) fn add_histogram(&self, labels: &[(&str, &str)], t: i64) {
        let counts = Counts::Integer(Buckets { count: 4, zero: 1, positive: vec![1, 2], ..Buckets::default() });
        let positive = vec![Span { offset: 0, length: 2 }];
        let layout = Layout { zero_threshold: 0.25, positive, ..Layout::default() };
        let histogram = Histogram { layout: layout.into(), hint: Default::default(), sum: 5.0, counts };
        self.add_histogram_of(labels, t, histogram);
    }

    /// The same of this histogram.
    pub(super) fn add_histogram_of(&self, labels: &[(&str, &str)], t: i64, histogram: Histogram) {
        let histograms = vec![HistogramSample { t, start: 0, histogram }];
        let columns = Columns { histograms, ..Columns::default() };
        self.series.lock().expect("no test panics here").push((Labels::new(labels).expect("labels"), columns));
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("no test panics here") = behaviour;
    }

    fn found(&self, sets: &[Vec<Matcher>], range: TimeRange) -> Vec<Labels> {
        let meets =
            |labels: &Labels, set: &Vec<Matcher>| set.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")));
        let series = self.series.lock().expect("no test panics here");
        let in_range = |columns: &Columns| {
            columns.t.iter().copied().chain(columns.histograms.iter().map(|h| h.t)).any(|t| range.contains(t))
        };
        let wanted = |labels: &Labels| sets.is_empty() || sets.iter().any(|set| meets(labels, set));
        series.iter().filter(|(l, c)| in_range(c) && wanted(l)).map(|(l, _)| l.clone()).collect()
    }
}

fn exemplar(t: i64, v: f64, labels: &[(&str, &str)]) -> Exemplar {
    Exemplar::new(t, v, labels).expect("valid")
}

fn metadata(family: &str, kind: MetricType, help: &str, unit: &str) -> Metadata {
    Metadata { family: family.to_owned(), kind, help: help.to_owned(), unit: unit.to_owned() }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts.dedup();
    texts
}

fn wait_until_cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        // What is cancelled tells nobody, and those who look all the time leave the others nothing.
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl SeriesSource for Memory {
    fn select(&self, request: &SelectRequest) -> Result<SeriesSet, SourceError> {
        self.account.selects.fetch_add(1, Ordering::SeqCst);
        let mut warnings = Vec::new();
        let behaviour = std::mem::take(&mut *self.behaviour.lock().expect("no test panics here"));
        match behaviour {
            Behaviour::Answer => {}
            Behaviour::Warn => warnings.push(WARNING.to_owned()),
            Behaviour::Hold(begun, release) => {
                begun.send(()).expect("the test listens");
                release.recv().expect("the test releases");
            }
            Behaviour::UntilCancelled(events) => {
                events.send("begun").expect("the test listens");
                wait_until_cancelled(&request.cancel);
                events.send("cancelled").expect("the test listens");
                return Err(SourceError::cancelled());
            }
            Behaviour::Panic => panic!("a fault in the source"),
            Behaviour::Fail(kind) => return Err(SourceError { kind, message: "block 7 is gone".to_owned() }),
        }
        let found = self.found(std::slice::from_ref(&request.matchers), request.range);
        let series = self.series.lock().expect("no test panics here");
        let series = series.iter().filter(|(labels, _)| found.contains(labels));
        let series =
            series.map(|(labels, c)| Series { labels: labels.clone(), data: Box::new(Data(c.clone())) }).collect();
        Ok(SeriesSet { series, warnings, ..SeriesSet::default() })
    }

    fn label_names(&self, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let found = self.found(&request.matcher_sets, request.range);
        Ok(self.listing(sorted(found.iter().flat_map(|l| l.iter().map(|(n, _)| n.to_owned())).collect())))
    }

    fn label_values(&self, name: &str, request: &LabelsRequest) -> Result<Listing<String>, SourceError> {
        let found = self.found(&request.matcher_sets, request.range);
        Ok(self.listing(sorted(found.iter().filter_map(|l| l.get(name).map(str::to_owned)).collect())))
    }

    fn metadata(&self, family: Option<&str>) -> Result<Listing<Metadata>, SourceError> {
        Ok(self.listing(self.metadata.iter().filter(|m| family.is_none_or(|f| m.family == f)).cloned().collect()))
    }
}

impl Reader for Memory {
    fn caught_up(
        &self,
        timeout: Duration,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), SourceError>> + Send + '_>> {
        let mut caught_up = self.caught_up.subscribe();
        Box::pin(async move {
            if self.unreachable.load(Ordering::Relaxed) {
                let message = "no storage node is reachable".to_owned();
                return Err(SourceError { kind: Kind::Unavailable, message });
            }
            let reached = tokio::time::timeout(timeout, caught_up.wait_for(|yes| *yes)).await;
            let late = |_| SourceError { kind: Kind::Unavailable, message: "not caught up".to_owned() };
            reached.map_err(late).map(drop)
        })
    }

    fn reached<'a>(&'a self, _: &'a Positions, timeout: Duration) -> queue::BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let reached = self.caught_up(timeout).await;
            // The way back over a network.
            tokio::time::sleep(Duration::from_millis(30)).await;
            reached
        })
    }

    fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    fn select_marked(&self, request: &SelectRequest) -> Result<(SeriesSet, Option<Mark>), SourceError> {
        let mark = self.marks_reads().then(|| self.mark());
        Ok((self.select(request)?, mark))
    }

    fn marks_reads(&self) -> bool {
        self.account.marks_reads.load(Ordering::SeqCst)
    }

    fn changes(&self, request: &ChangesRequest) -> Changes {
        self.account.asked.fetch_add(1, Ordering::SeqCst);
        let has_changed = request.since.as_ref().is_some_and(|since| *since != self.mark());
        let mark = self.account.is_kept.load(Ordering::SeqCst).then(|| self.mark());
        Changes { ranges: if has_changed || mark.is_none() { vec![request.range] } else { Vec::new() }, mark }
    }

    fn cardinality(&self, request: &CardinalityRequest) -> Result<Cardinality, SourceError> {
        let (mut tally, mut all) = (Tally::default(), Cardinality::default());
        for labels in self.found(&request.matcher_sets, request.range) {
            tally.add(labels.as_ref());
            tally.chunks += 2;
            all.widen(TimeRange { start_ms: NOW_MS - 60_000, end_ms: NOW_MS - 1 });
        }
        if tally.series > request.series_max as u64 {
            return Err(SourceError { kind: Kind::Invalid, message: "too many series".to_owned() });
        }
        all.tallies.insert(0, tally);
        all.warnings = self.listing(Vec::<String>::new()).warnings;
        Ok(all)
    }

    fn exemplars(&self, request: &ExemplarsRequest) -> Result<Listing<SeriesExemplars>, SourceError> {
        let in_range = |one: &SeriesExemplars| {
            let exemplars = one.exemplars.iter().filter(|e| request.range.contains(e.t)).cloned().collect();
            SeriesExemplars { series: one.series.clone(), exemplars }
        };
        let found = self.exemplars.iter().filter(|one| request.is_of(&one.series)).map(in_range);
        let found: Vec<SeriesExemplars> = found.filter(|one| !one.exemplars.is_empty()).collect();
        if found.iter().map(|one| one.exemplars.len()).sum::<usize>() > request.exemplars_max {
            return Err(SourceError { kind: Kind::Invalid, message: "too many exemplars".to_owned() });
        }
        Ok(self.listing(found))
    }
}

impl Memory {
    fn mark(&self) -> Mark {
        vec![(7, self.account.version.load(Ordering::SeqCst))].into()
    }

    /// A list, with a warning where the test wants one.
    fn listing<T>(&self, items: Vec<T>) -> Listing<T> {
        let behaviour = std::mem::take(&mut *self.behaviour.lock().expect("no test panics here"));
        let warns = matches!(behaviour, Behaviour::Warn);
        Listing { items, warnings: warns.then(|| WARNING.to_owned()).into_iter().collect() }
    }
}

/// A started component over [`Memory`].
pub(super) struct Server {
    pub(super) memory: Arc<Memory>,
    pub(super) component: Component,
    pub(super) presentation: Presentation,
    pub(super) registry: prometheus::Registry,
    pub(super) trigger: ShutdownTrigger,
}

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

impl Server {
    pub(super) fn new() -> Self {
        Self::with_arguments(&[])
    }

    pub(super) fn with_arguments(words: &[&str]) -> Self {
        Self::with_memory(words, model::Budget::default())
    }

    pub(super) fn with_memory(words: &[&str], memory: model::Budget) -> Self {
        Self::start(words, memory, FrontDoor::default(), About::default(), Features::default())
    }

    pub(super) fn with_features(names: &str) -> Self {
        let features = Features::from_names(names).expect("known");
        Self::start(&[], model::Budget::default(), FrontDoor::default(), About::default(), features)
    }

    /// In front of another component.
    pub(super) fn with_front_door(front_door: FrontDoor) -> Self {
        Self::start(&[], model::Budget::default(), front_door, About::default(), Features::default())
    }

    /// In a process of which this is known.
    pub(super) fn with_about(about: About) -> Self {
        Self::start(&[], model::Budget::default(), FrontDoor::default(), about, Features::default())
    }

    fn start(words: &[&str], memory: model::Budget, front_door: FrontDoor, about: About, features: Features) -> Self {
        let words = [&["query", "--query-threads", "2"], words].concat();
        let args = Args { memory, features, ..<Command as clap::Parser>::parse_from(words).args };
        let memory = Arc::new(Memory::new());
        let registry = prometheus::Registry::new();
        let (trigger, shutdown) = Shutdown::new();
        let deps = Deps { reader: memory.clone(), front_door, about };
        let started = crate::start_at(args, deps, &registry, shutdown, || NOW_MS).expect("starts");
        let Started { component, presentation } = started;
        Server { memory, component, presentation, registry, trigger }
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let response = self.component.router.clone().oneshot(request).await.expect("a router always answers");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 30).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, String) {
        self.send(Request::get(path).body(Body::empty()).expect("a request")).await
    }

    pub(super) async fn post(&self, path: &str, form: &str) -> (StatusCode, String) {
        let request = Request::post(path).header("Content-Type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form.to_owned())).expect("a request")).await
    }

    /// Asks, and compares the data of a success.
    pub(super) async fn check(&self, path: &str, data: &str) {
        let expect = (StatusCode::OK, format!("{{\"status\":\"success\",\"data\":{data}}}"));
        assert_eq!(self.get(path).await, expect, "{path}");
    }

    /// Asks, and compares the error.
    pub(super) async fn refused(&self, path: &str, status: u16, word: &str, error: &str) {
        let body = format!("{{\"status\":\"error\",\"errorType\":\"{word}\",\"error\":\"{error}\"}}");
        let status = StatusCode::from_u16(status).expect("a status");
        assert_eq!(self.get(path).await, (status, body), "{path}");
    }

    /// The value of a metric whose line in the text format begins so.
    pub(super) fn metric(&self, line: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).expect("metrics");
        let value = text.lines().find_map(|l| l.strip_prefix(line));
        value.unwrap_or_else(|| panic!("no {line} in\n{text}")).trim().parse().expect("a number")
    }
}
