//! Answers to range queries that are kept, so that a panel which is drawn anew evaluates only the steps that are new.
//!
//! What is kept of a step is used as long as nothing changed in the times that the step reads: storage keeps account of that by the minute, and is asked
//! before ([`storage::Reader::changes`]). So a late sample or a deletion takes away what it touches and nothing else, and nothing is kept for a time
//! and hoped to hold. Only expressions of which every step is worked out without regard to the others are kept, and only answers without warnings.

mod key;
mod marked;
mod steps;

use std::sync::{Arc, Mutex, PoisonError};

use model::{Budget, Cancel, Claim, Columns, Labels, SeriesSource, TimeRange};
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use promql::ast::Expr;
use promql::{Evaluation, Stats, Value};
use quick_cache::sync::Cache as Store;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};
use storage::{Changes, ChangesRequest, Mark, Reader};

use self::key::{Key, Reads};
use self::marked::Marked;
use self::steps::{Steps, fresh, missing};
use crate::Error;
use crate::evaluate::Times;

/// What an answer takes beside its samples and labels.
const EXTENT_BYTES: usize = 256;
/// The same of a series.
const SERIES_BYTES: usize = 64;
/// What an answer takes on average, so that the table has room for as many as there will be.
const ANSWER_BYTES: usize = 32 << 10;
/// Samples that an evaluation reads, below which its answer is not worth to be kept.
const SAMPLES_MIN: u64 = 10_000;
/// Runs of steps that are evaluated one after the other, beyond which all are at once.
const RUNS_MAX: usize = 4;
/// How the one info begins that does not depend on the time.
const NOT_A_COUNTER: &str = "PromQL info: metric might not be a counter";
/// Part of the memory of queries that it takes at most.
const SHARE: usize = 8;

type Kept = Store<Key, Arc<Extent>, ByBytes, std::hash::RandomState, Evictions>;

/// Answers by what was asked.
pub(crate) struct Cache {
    store: Option<Kept>,
    claim: Claim,
    /// Held by whoever adds one.
    keeping: Mutex<()>,
    metrics: Metrics,
}

/// What is known of the steps of a query.
#[derive(Debug)]
struct Extent {
    /// How far storage was when it was looked at for these.
    mark: Mark,
    steps: Steps,
    series: Vec<(Labels, Columns)>,
    /// What may be wrong with the question, which is of the names of metrics mostly.
    infos: Vec<String>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Extent>> for ByBytes {
    fn weight(&self, key: &Key, extent: &Arc<Extent>) -> u64 {
        let infos = extent.infos.iter().map(String::len).sum::<usize>();
        (EXTENT_BYTES + key.bytes() + infos + bytes_of(&extent.series)) as u64
    }
}

/// Memory of series, in bytes.
fn bytes_of(series: &[(Labels, Columns)]) -> usize {
    series.iter().map(|(labels, c)| SERIES_BYTES + labels.canonical().len() + c.memory()).sum()
}

/// Counts what has to go.
#[derive(Clone)]
struct Evictions(IntCounter);

impl Lifecycle<Key, Arc<Extent>> for Evictions {
    type RequestState = ();

    fn on_evict(&self, _: &mut (), _: Key, _: Arc<Extent>) {
        self.0.inc();
    }
}

struct Metrics {
    requests: IntCounterVec,
    evictions: IntCounter,
    bytes: IntGauge,
}

impl Metrics {
    fn register(registry: &Registry, bytes_max: usize) -> Result<Metrics, prometheus::Error> {
        let requests = Opts::new(
            "weir_query_cache_requests_total",
            "Range queries that may be kept, by what of them was: all steps (hit), some (partial), or none (miss).",
        );
        let metrics = Metrics {
            requests: IntCounterVec::new(requests, &["result"])?,
            evictions: IntCounter::new(
                "weir_query_cache_evictions_total",
                "Answers that were dropped to make room for others.",
            )?,
            bytes: IntGauge::new("weir_query_cache_bytes", "Memory of the answers that are kept.")?,
        };
        for result in ["hit", "partial", "miss"] {
            metrics.requests.with_label_values(&[result]);
        }
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.evictions.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        runtime::metrics::register_bounds(
            registry,
            &[(
                "weir_query_cache_bytes_max",
                "Bound of weir_query_cache_bytes; those not used for longest go.",
                bytes_max as u64,
            )],
        )?;
        Ok(metrics)
    }
}

impl Cache {
    /// One of so many bytes, which are part of those of all queries; 0 keeps nothing.
    pub(crate) fn new(bytes_max: usize, memory: &Budget, registry: &Registry) -> Result<Cache, Error> {
        let bytes_max = bytes_max.min(memory.bytes_max() / SHARE);
        let failed = |e: &dyn std::fmt::Display| Error::Internal(format!("the cache of answers cannot be made: {e}"));
        let metrics = Metrics::register(registry, bytes_max).map_err(|e| failed(&e))?;
        let options = OptionsBuilder::new()
            .estimated_items_capacity(bytes_max / ANSWER_BYTES + 1)
            .weight_capacity(bytes_max as u64)
            // One answer may take all of it.
            .shards(1)
            .build()
            .map_err(|e| failed(&e))?;
        let evictions = Evictions(metrics.evictions.clone());
        let store = (bytes_max > 0).then(|| Store::with_options(options, ByBytes, Default::default(), evictions));
        Ok(Cache { store, claim: memory.claim(), keeping: Mutex::default(), metrics })
    }

    /// The value of an expression, given with its text, at all steps, of which those are evaluated that are not known; `evaluate` does so for some of the
    /// times, over a source. Copies of what is known are held by the claim of the query.
    ///
    /// What is known is asked for changes. Where nothing is, the read itself tells how far the storage was, where it can.
    pub(crate) fn evaluate(
        &self,
        (text, expr): (&str, &Expr),
        times: Times,
        reader: &dyn Reader,
        cancel: &Cancel,
        evaluate: &Evaluate<'_>,
    ) -> Result<Evaluation, Error> {
        let whole = || evaluate(times, reader);
        let asked = self.store.as_ref().zip(Reads::of(expr, times.lookback_ms)).zip(Steps::of(times));
        let Some(((store, reads), steps)) = asked else { return whole() };
        let key = Key::new(text, times, steps);
        let known = store.get(&key).and_then(|extent| Some((extent.steps.common(steps)?, extent)));
        if known.is_none() && reader.marks_reads() {
            self.count(false, false);
            let marked = Marked::new(reader);
            let evaluated = evaluate_runs(&[steps], times, &|times| evaluate(times, &marked))?;
            let (mut pieces, mut infos, stats) = match evaluated {
                Evaluated::Plain(pieces, infos, stats) => (pieces, infos, stats),
                Evaluated::Other(whole) => {
                    store.remove(&key);
                    return Ok(*whole);
                }
            };
            infos.sort_unstable();
            infos.dedup();
            let matrix = pieces.pop().unwrap_or_default();
            if let Some(mark) = marked.mark().filter(|_| stats.samples_read >= SAMPLES_MIN) {
                self.keep(store, key, Of { mark, steps, matrix: &matrix, infos: &infos });
            }
            return Ok(Evaluation { value: Value::Matrix(matrix), warnings: Vec::new(), infos, stats });
        }
        let changes = reader.changes(&ChangesRequest {
            since: known.as_ref().map(|(_, extent)| extent.mark.clone()),
            names: Some(reads.names.clone()),
            range: reads.range(known.as_ref().map_or(steps, |(common, _)| *common)),
            cancel: cancel.clone(),
        });
        let Changes { mark: Some(mark), ranges } = changes else { return whole() };
        let kept = known.as_ref().map(|(common, extent)| (fresh(*common, &ranges, &reads), extent));
        let (runs, extent) = match &kept {
            Some((runs, extent)) => (runs.as_slice(), Some(*extent)),
            None => (&[][..], None),
        };
        let todo = missing(steps, runs);
        let (todo, extent) = match extent {
            Some(extent) if !runs.is_empty() && todo.len() <= RUNS_MAX => (todo, Some(extent)),
            _ => (vec![steps], None),
        };
        self.count(extent.is_some(), todo.is_empty());
        let evaluated = evaluate_runs(&todo, times, &|times| evaluate(times, reader))?;
        let (pieces, mut infos, stats) = match evaluated {
            Evaluated::Plain(pieces, infos, stats) => (pieces, infos, stats),
            Evaluated::Other(part) => {
                store.remove(&key);
                // What was evaluated is all of it, where nothing was known.
                return if extent.is_none() { Ok(*part) } else { whole() };
            }
        };
        let mut known_pieces = Vec::with_capacity(runs.len());
        if let Some(extent) = extent {
            for run in runs {
                known_pieces.push(cut(&extent.series, *run, cancel.claim())?);
            }
            if known_pieces.iter().any(|piece| !piece.is_empty()) {
                infos.extend(extent.infos.iter().cloned());
            }
        }
        let matrix = joined(known_pieces.into_iter().chain(pieces).collect(), cancel.claim())?;
        infos.sort_unstable();
        infos.dedup();
        // One that has all steps stays as it is as long as it holds.
        if !todo.is_empty() && (extent.is_some() || stats.samples_read >= SAMPLES_MIN) {
            self.keep(store, key, Of { mark, steps, matrix: &matrix, infos: &infos });
        }
        Ok(Evaluation { value: Value::Matrix(matrix), warnings: Vec::new(), infos, stats })
    }

    /// Keeps a copy of an answer, where it is not larger than all that may be kept and there is memory for both.
    fn keep(&self, store: &Kept, key: Key, of: Of<'_>) {
        let Of { mark, steps, matrix, infos } = of;
        let bytes = EXTENT_BYTES + key.bytes() + bytes_of(matrix);
        // What one has taken for its copy is not yet in what another one sums up.
        let _keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held = self.claim.hold();
        if bytes as u64 > store.capacity() || !held.grow_if_free(bytes) {
            return;
        }
        let extent = Extent { mark, steps, series: matrix.to_vec(), infos: infos.to_vec() };
        // Else the one that it takes the place of would count as one that had to go.
        store.remove(&key);
        store.insert(key, Arc::new(extent));
        held.keep();
        self.told(store);
    }

    /// Holds and tells what all that is kept takes.
    fn told(&self, store: &Kept) {
        let bytes = usize::try_from(store.weight()).unwrap_or(usize::MAX);
        self.claim.set(bytes);
        self.metrics.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    fn count(&self, is_known: bool, is_whole: bool) {
        let result = match (is_known, is_whole) {
            (true, true) => "hit",
            (true, false) => "partial",
            _ => "miss",
        };
        self.metrics.requests.with_label_values(&[result]).inc();
    }
}

type Matrix = Vec<(Labels, Columns)>;

/// Evaluates at some times over a source.
pub(crate) type Evaluate<'a> = dyn Fn(Times, &dyn SeriesSource) -> Result<Evaluation, Error> + 'a;

/// What is to be kept.
struct Of<'a> {
    mark: Mark,
    steps: Steps,
    matrix: &'a Matrix,
    infos: &'a [String],
}

/// What runs of steps came to.
enum Evaluated {
    /// The series of each, the infos of all, and what they took.
    Plain(Vec<Matrix>, Vec<String>, Stats),
    /// The answer of a run that may not be kept or put together with others.
    Other(Box<Evaluation>),
}

/// Evaluates runs of steps, up to the first whose answer may not be kept.
fn evaluate_runs(
    runs: &[Steps],
    times: Times,
    evaluate: &dyn Fn(Times) -> Result<Evaluation, Error>,
) -> Result<Evaluated, Error> {
    let (mut pieces, mut infos, mut stats) = (Vec::with_capacity(runs.len()), Vec::new(), Stats::default());
    for run in runs {
        let done = evaluate(Times { start_ms: run.first_ms, end_ms: run.last_ms, ..times })?;
        let is_plain = done.warnings.is_empty() && done.infos.iter().all(|info| is_of_names(info));
        let matrix = match done.value {
            Value::Matrix(matrix) if is_plain && matrix.iter().all(|(_, c)| c.histograms.is_empty()) => matrix,
            value => return Ok(Evaluated::Other(Box::new(Evaluation { value, ..done }))),
        };
        stats.samples_read += done.stats.samples_read;
        stats.series = stats.series.max(done.stats.series);
        stats.samples_peak = stats.samples_peak.max(done.stats.samples_peak);
        pieces.push(matrix);
        infos.extend(done.infos);
    }
    Ok(Evaluated::Plain(pieces, infos, stats))
}

/// Whether an info is the same at all steps: that the name of a metric is not one of a counter.
fn is_of_names(info: &str) -> bool {
    info.starts_with(NOT_A_COUNTER) && !info.contains(" occurrences)")
}

/// What series have at a run of steps: a copy, whose memory is held before it is taken.
fn cut(series: &[(Labels, Columns)], run: Steps, claim: &Claim) -> Result<Matrix, Error> {
    let range = TimeRange { start_ms: run.first_ms, end_ms: run.last_ms };
    let mut out = Matrix::new();
    for (labels, columns) in series {
        let from = columns.t.partition_point(|t| *t < range.start_ms);
        let to = columns.t.partition_point(|t| *t <= range.end_ms);
        if from < to {
            claim
                .take(SERIES_BYTES + labels.canonical().len() + (to - from) * (size_of::<i64>() + size_of::<f64>()))?;
            let (t, v) = (columns.t[from..to].to_vec(), columns.v[from..to].to_vec());
            out.push((labels.clone(), Columns::floats(t, v)));
        }
    }
    Ok(out)
}

/// Puts pieces of different times together, each of them ascending by labels.
fn joined(mut pieces: Vec<Matrix>, claim: &Claim) -> Result<Matrix, Error> {
    if pieces.len() == 1 {
        return Ok(pieces.remove(0));
    }
    // The columns of a piece grow by those of the others.
    claim.take(pieces.iter().map(|piece| bytes_of(piece)).sum())?;
    let mut all: Matrix = pieces.into_iter().flatten().collect();
    // Stable, and each is in order: so this merges.
    all.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.t.first().cmp(&b.1.t.first())));
    let mut out: Matrix = Vec::with_capacity(all.len());
    for (labels, columns) in all {
        match out.last_mut() {
            Some((last, known)) if *last == labels => {
                known.t.extend_from_slice(&columns.t);
                known.v.extend_from_slice(&columns.v);
            }
            _ => out.push((labels, columns)),
        }
    }
    Ok(out)
}
