//! From what a read found to frames.
//!
//! Samples are decoded and encoded again by all cores, some series a task, in the order of the labels. Encoding again costs some tens of
//! nanoseconds a sample; what it buys is one encoding on the wire whatever the head and the blocks have of a series, with each time once.

use model::{
    Cancel, Cardinality, Kind, Listing, Metadata, Outline, OutlineRequest, Series, SeriesCounts, SeriesExemplars,
    SeriesSet, SourceError, TimeRange, Want,
};
use rayon::prelude::*;
use tsdb::NewestSamples;

use super::Server;
use super::stream::{HungUp, Sink};
use crate::wire::answer;
use crate::wire::series::{Form, SeriesWriter};
use crate::{Changes, Mark};

/// Series of one task: enough to make up for starting it.
const SERIES_A_TASK: usize = 64;
/// Encoded bytes after which a task stops and leaves the rest of its series: so what is encoded ahead of the connection is bounded by this
/// and one series, times the tasks.
const TASK_BYTES: usize = 2 << 20;

/// What a read found.
pub(super) enum Reply {
    Series {
        set: SeriesSet,
        mark: Option<Mark>,
        range: TimeRange,
        want: Want,
    },
    Texts(Listing<String>),
    Metadata(Listing<Metadata>),
    Exemplars(Listing<SeriesExemplars>),
    Changes(Changes),
    Cardinality(Cardinality),
    /// None where they have to be read.
    Counts(Option<SeriesCounts>),
    /// Of a range; none where they have to be read.
    Newest(Option<NewestSamples>, TimeRange),
}

/// What a task encoded.
#[derive(Default)]
struct Encoded {
    frames: Vec<axum::body::Bytes>,
    series: usize,
    samples: u64,
}

/// Writes the whole answer. An error on the way is its last frame.
pub(super) fn send(server: &Server, reply: Reply, cancel: &Cancel, sink: &mut Sink) -> Result<(), HungUp> {
    sink.push(&server.begin())?;
    let sent = match reply {
        Reply::Series { mut set, mark, range, want } => {
            push_all(sink, answer::warnings(&set.warnings))?;
            push_all(sink, mark.iter().map(|mark| answer::changes(mark, &[])))?;
            if set.resolution_ms > 0 {
                sink.push(&answer::resolution(set.resolution_ms))?;
            }
            server.pool.install(|| {
                set.series.par_sort_unstable_by(|a, b| a.labels.canonical().cmp(b.labels.canonical()));
            });
            series(server, &set.series, &Wanted { range, want }, cancel, sink)?
        }
        Reply::Texts(listing) => {
            push_all(sink, answer::warnings(&listing.warnings))?;
            push_all(sink, answer::texts(&listing.items))?;
            Ok((listing.items.len() as u64, 0))
        }
        Reply::Metadata(listing) => {
            push_all(sink, answer::warnings(&listing.warnings))?;
            push_all(sink, answer::metadata(&listing.items))?;
            Ok((listing.items.len() as u64, 0))
        }
        Reply::Exemplars(listing) => {
            push_all(sink, answer::warnings(&listing.warnings))?;
            push_all(sink, answer::exemplars(&listing.items))?;
            Ok((listing.items.iter().map(|one| one.exemplars.len() as u64).sum(), 0))
        }
        Reply::Changes(changes) => {
            // Where nothing is known nothing is said.
            push_all(sink, changes.mark.iter().map(|mark| answer::changes(mark, &changes.ranges)))?;
            Ok((0, 0))
        }
        Reply::Cardinality(counted) => {
            push_all(sink, answer::warnings(&counted.warnings))?;
            push_all(sink, answer::cardinality(&counted))?;
            let pairs = counted.tallies.values().flat_map(|tally| tally.labels.values());
            Ok((pairs.map(|values| values.len() as u64).sum(), 0))
        }
        // Where it cannot tell nothing is said.
        Reply::Counts(None) | Reply::Newest(None, _) => Ok((0, 0)),
        Reply::Counts(Some(counted)) => {
            push_all(sink, answer::warnings(&counted.warnings))?;
            push_all(sink, answer::counts(counted.groups.iter().map(|(value, series)| (value.as_str(), *series))))?;
            Ok((counted.groups.len() as u64, 0))
        }
        Reply::Newest(Some(found), range) => {
            push_all(sink, answer::warnings(&found.warnings))?;
            // How many have each value is counted by who knows the samples of all nodes.
            push_all(sink, answer::counts(found.groups.iter().map(|value| (value.as_str(), 0))))?;
            push_all(sink, answer::newest(&found.series, range.start_ms))?;
            Ok(((found.groups.len() + found.series.len()) as u64, 0))
        }
    };
    match sent {
        Ok((items, samples)) => {
            server.metrics.sent_samples.inc_by(samples);
            sink.push(&answer::end(items, samples))?;
        }
        Err(error) => {
            server.metrics.failed.inc();
            tracing::warn!(error = error.message, "a read failed while it was answered");
            sink.push(&answer::error(&error))?;
        }
    }
    sink.flush()
}

fn push_all(sink: &mut Sink, frames: impl IntoIterator<Item = axum::body::Bytes>) -> Result<(), HungUp> {
    frames.into_iter().try_for_each(|frame| sink.push(&frame))
}

/// Series and samples that were sent, or why not all were.
type Sent = Result<(u64, u64), SourceError>;

fn series(server: &Server, all: &[Series], wanted: &Wanted, cancel: &Cancel, sink: &mut Sink) -> Result<Sent, HungUp> {
    let threads = server.pool.current_num_threads();
    let each = all.len().div_ceil(threads).clamp(1, SERIES_A_TASK);
    let mut samples = 0;
    for round in all.chunks(each * threads) {
        let tasks: Vec<&[Series]> = round.chunks(each).collect();
        let encoded: Vec<Result<Encoded, SourceError>> =
            server.pool.install(|| tasks.par_iter().map(|task| encode(task, wanted, cancel)).collect());
        for (task, encoded) in tasks.into_iter().zip(encoded) {
            let (mut rest, mut encoded) = (task, encoded);
            loop {
                let Encoded { frames, series, samples: some } = match encoded {
                    Ok(encoded) => encoded,
                    Err(error) => return Ok(Err(error)),
                };
                push_all(sink, frames)?;
                samples += some;
                rest = &rest[series..];
                if rest.is_empty() {
                    break;
                }
                encoded = encode(rest, wanted, cancel);
            }
        }
    }
    Ok(Ok((all.len() as u64, samples)))
}

/// What is sent of each series.
struct Wanted {
    range: TimeRange,
    want: Want,
}

impl Wanted {
    fn form(&self) -> Form {
        if matches!(self.want, Want::Outline { .. }) { Form::Outline } else { Form::Samples }
    }

    /// Reads it. An outline that whoever evaluates would find not to be enough is not sent, since all samples would be asked for after it.
    fn read(&self, series: &Series, out: &mut Outline) -> Result<(), SourceError> {
        out.clear();
        match &self.want {
            Want::LabelsOnly => return Ok(()),
            Want::Samples => {}
            Want::Outline { aspect, edges } => {
                series.data.outline(&OutlineRequest { range: self.range, aspect: *aspect, edges }, out)?;
                if out.is_enough(*aspect) {
                    out.condense(*aspect, edges);
                    return Ok(());
                }
                out.clear();
            }
        }
        series.data.read(self.range, &mut out.columns)
    }
}

/// Encodes the first of these series, at least one; all of them unless they are large.
fn encode(series: &[Series], wanted: &Wanted, cancel: &Cancel) -> Result<Encoded, SourceError> {
    let mut writer = SeriesWriter::new(wanted.form());
    let (mut outline, mut encoded) = (Outline::default(), Encoded::default());
    let mut held = cancel.claim().hold();
    for one in series {
        if cancel.is_cancelled() {
            return Err(SourceError::cancelled());
        }
        wanted.read(one, &mut outline)?;
        let columns = &outline.columns;
        held.grow_to(columns.memory() + outline.left_out.capacity() * size_of::<u64>())?;
        // The chunks of the engine hold times that ascend, and the seam promises them; a source that breaks it must not end as wrong samples.
        let ascend = columns.t.is_sorted_by(|a, b| a < b) && columns.histograms.is_sorted_by(|a, b| a.t < b.t);
        if !ascend {
            let message = format!("the samples of {} do not ascend", one.labels);
            return Err(SourceError { kind: Kind::Internal, message });
        }
        writer.push(&one.labels, columns, &outline.left_out);
        encoded.series += 1;
        encoded.samples += columns.samples() as u64;
        if writer.bytes >= TASK_BYTES {
            break;
        }
    }
    encoded.frames = writer.finish();
    Ok(encoded)
}
