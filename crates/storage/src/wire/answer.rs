//! Frames of an answer, written and read.

use bytes::Bytes;
use model::{
    Cardinality, Exemplar, Labels, LabelsRef, Metadata, MetricType, SeriesExemplars, SourceError, Tally, TimeRange,
};
use tsdb::Newest;

use super::fields::{Fields, Malformed, put_bytes, put_number, put_signed};
use super::frame::{Frame, FrameKind, TARGET, begin, finish, frame, payload_bytes};
use super::question::{marks, put_marks};
use super::series::{self, Encoded, Form};
use super::{KINDS, kind_code};
use crate::replica::Replica;
use crate::{Changes, Mark};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Which of the replicas.
    pub(crate) replica: Replica,
    /// Of the log.
    pub(crate) partitions: u32,
}

impl Begin {
    pub(crate) fn encode(self) -> Bytes {
        frame(FrameKind::Begin, |out| {
            for n in [self.replica.number, self.replica.of, self.replica.copies, self.partitions] {
                put_number(out, u64::from(n));
            }
        })
    }

    fn read(fields: &mut Fields<'_>) -> Result<Begin, Malformed> {
        let replica = Replica { number: fields.small()?, of: fields.small()?, copies: fields.small()? };
        Ok(Begin { replica, partitions: fields.small()? })
    }
}

/// Frames of a list, each element written by `write`.
fn list<T>(kind: FrameKind, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) -> Vec<Bytes> {
    let (mut frames, mut open) = (Vec::new(), begin(kind));
    for item in items {
        write(&mut open, item);
        if payload_bytes(&open) >= TARGET {
            frames.push(finish(std::mem::replace(&mut open, begin(kind))));
        }
    }
    if payload_bytes(&open) > 0 {
        frames.push(finish(open));
    }
    frames
}

/// Frames of label names or values.
pub(crate) fn texts(items: &[String]) -> Vec<Bytes> {
    list(FrameKind::Texts, items, |out, text| put_bytes(out, text.as_bytes()))
}

/// Frames of warnings.
pub(crate) fn warnings(items: &[String]) -> Vec<Bytes> {
    list(FrameKind::Warnings, items, |out, text| put_bytes(out, text.as_bytes()))
}

/// The longest windows out of which samples were left, in milliseconds.
pub(crate) fn resolution(resolution_ms: i64) -> Bytes {
    frame(FrameKind::Resolution, |out| put_signed(out, resolution_ms))
}

/// Frames of metadata.
pub(crate) fn metadata(items: &[Metadata]) -> Vec<Bytes> {
    list(FrameKind::Metadata, items, |out, m| {
        for text in [&m.family, m.kind.as_str(), &m.help, &m.unit] {
            put_bytes(out, text.as_bytes());
        }
    })
}

/// Exemplars of an entry: with the longest labels a part of a frame, so that no frame is too large.
const EXEMPLARS_AT_ONCE: usize = 100;

/// Frames of exemplars. Those of a series that are many are several entries.
pub(crate) fn exemplars(items: &[SeriesExemplars]) -> Vec<Bytes> {
    let entries = items.iter().flat_map(|one| one.exemplars.chunks(EXEMPLARS_AT_ONCE).map(|some| (&one.series, some)));
    list(FrameKind::Exemplars, &entries.collect::<Vec<_>>(), |out, (series, some)| {
        put_bytes(out, series.canonical().as_bytes());
        put_number(out, some.len() as u64);
        for exemplar in *some {
            put_signed(out, exemplar.t);
            out.extend_from_slice(&exemplar.v.to_le_bytes());
            put_bytes(out, exemplar.labels.canonical().as_bytes());
        }
    })
}

/// Frames of what was counted.
pub(crate) fn cardinality(counted: &Cardinality) -> Vec<Bytes> {
    let totals = frame(FrameKind::Totals, |out| {
        out.push(u8::from(counted.range.is_some()));
        for time in counted.range.iter().flat_map(|range| [range.start_ms, range.end_ms]) {
            put_signed(out, time);
        }
        for (class, tally) in &counted.tallies {
            [u64::from(*class), tally.series, tally.chunks].into_iter().for_each(|n| put_number(out, n));
        }
    });
    let mut frames = vec![totals];
    for (class, tally) in &counted.tallies {
        for (name, values) in &tally.labels {
            let start = || {
                let mut out = begin(FrameKind::Tally);
                put_number(&mut out, u64::from(*class));
                put_bytes(&mut out, name.as_bytes());
                out
            };
            let mut open = start();
            for (value, series) in values {
                if payload_bytes(&open) >= TARGET {
                    frames.push(finish(std::mem::replace(&mut open, start())));
                }
                put_bytes(&mut open, value.as_bytes());
                put_number(&mut open, *series);
            }
            frames.push(finish(open));
        }
    }
    frames
}

/// Frames of series that were counted, at least one: the values of the label, with how many series have each.
pub(crate) fn counts<'a>(groups: impl Iterator<Item = (&'a str, u64)>) -> Vec<Bytes> {
    let groups: Vec<(&str, u64)> = groups.collect();
    let frames = list(FrameKind::Counts, &groups, |out, (value, series)| {
        put_bytes(out, value.as_bytes());
        put_number(out, *series);
    });
    // Where there are none that is told too.
    if frames.is_empty() { vec![frame(FrameKind::Counts, |_| {})] } else { frames }
}

/// Frames of the newest samples of series, each made when it is asked for; `base_ms` is about when these are.
pub(crate) fn newest(series: &[Newest], base_ms: i64) -> impl Iterator<Item = Bytes> {
    let mut series = series.iter().peekable();
    std::iter::from_fn(move || {
        series.peek()?;
        let mut open = begin(FrameKind::Newest);
        put_signed(&mut open, base_ms);
        while payload_bytes(&open) < TARGET
            && let Some(one) = series.next()
        {
            open.extend_from_slice(&one.hash.to_le_bytes());
            put_number(&mut open, u64::from(one.group) << 1 | u64::from(one.is_live));
            put_signed(&mut open, one.t.wrapping_sub(base_ms));
        }
        Some(finish(open))
    })
}

/// Records that are acknowledged and not visible yet.
pub(crate) fn backlog(records: u64) -> Bytes {
    frame(FrameKind::Backlog, |out| put_number(out, records))
}

/// What changed, of a storage that knows it.
pub(crate) fn changes(mark: &Mark, ranges: &[TimeRange]) -> Bytes {
    frame(FrameKind::Changes, |out| {
        put_marks(out, &mark.0);
        put_number(out, ranges.len() as u64);
        for range in ranges {
            put_signed(out, range.start_ms);
            put_signed(out, range.end_ms);
        }
    })
}

/// The last frame of a whole answer: how many series, or elements of a list, or exemplars, or pairs of label and value, or values that were
/// counted by and newest samples, it had, and how many samples.
pub(crate) fn end(items: u64, samples: u64) -> Bytes {
    frame(FrameKind::End, |out| {
        put_number(out, items);
        put_number(out, samples);
    })
}

/// The last frame of an answer that failed.
pub(crate) fn error(error: &SourceError) -> Bytes {
    frame(FrameKind::Error, |out| {
        out.push(kind_code(error.kind));
        put_bytes(out, error.message.as_bytes());
    })
}

/// What was read of an answer so far.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) begin: Option<Begin>,
    /// Ascending by canonical text, each label set once.
    pub(crate) series: Vec<(Labels, Encoded)>,
    pub(crate) texts: Vec<String>,
    pub(crate) metadata: Vec<Metadata>,
    /// Each series once, in the order in which they came.
    pub(crate) exemplars: Vec<SeriesExemplars>,
    pub(crate) warnings: Vec<String>,
    /// As told last.
    pub(crate) backlog: Option<u64>,
    /// As told last.
    pub(crate) changes: Option<Changes>,
    /// As in [`model::SeriesSet`].
    pub(crate) resolution_ms: i64,
    pub(crate) cardinality: Cardinality,
    /// The values of the label that was counted by, each once, and how many series have each; `None` where the node cannot tell.
    pub(crate) counts: Option<Vec<(String, u64)>>,
    /// Of series that were counted; their groups are places in the counts.
    pub(crate) newest: Vec<Newest>,
    samples: u64,
    /// Number of exemplars.
    examples: u64,
    /// Bytes of what was counted, beside what came.
    pub(crate) tally_bytes: usize,
    pairs: u64,
    /// Values that were counted by, and series that were counted.
    counted: u64,
}

/// What a frame makes of an answer.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is more to come.
    More,
    /// It is whole.
    Whole,
    /// The node failed.
    Failed(SourceError),
}

impl Answer {
    /// Takes the next frame.
    pub(crate) fn take(&mut self, frame: Frame) -> Result<Step, Malformed> {
        let mut fields = Fields::new(&frame.payload);
        if self.begin.is_none() != (frame.kind == FrameKind::Begin) {
            return Err("the first frame and no other says who answers");
        }
        match frame.kind {
            FrameKind::Begin => self.begin = Some(Begin::read(&mut fields)?),
            FrameKind::Series => self.samples += series::read(&frame.payload, Form::Samples, &mut self.series)?,
            FrameKind::Outlines => self.samples += series::read(&frame.payload, Form::Outline, &mut self.series)?,
            FrameKind::Texts => each(&mut fields, &frame, |fields| {
                self.texts.push(fields.text()?.to_owned());
                Ok(())
            })?,
            FrameKind::Warnings => each(&mut fields, &frame, |fields| {
                self.warnings.push(fields.text()?.to_owned());
                Ok(())
            })?,
            FrameKind::Metadata => each(&mut fields, &frame, |fields| {
                let family = fields.text()?.to_owned();
                let kind = MetricType::from_name(fields.text()?).ok_or("a type of metric is not known")?;
                let (help, unit) = (fields.text()?.to_owned(), fields.text()?.to_owned());
                self.metadata.push(Metadata { family, kind, help, unit });
                Ok(())
            })?,
            FrameKind::Exemplars => each(&mut fields, &frame, |fields| self.read_exemplars(fields))?,
            FrameKind::Backlog => self.backlog = Some(fields.number()?),
            FrameKind::Changes => {
                let mark = Some(Mark(marks(&mut fields)?));
                let ranges = fields.list(|f| Ok(TimeRange { start_ms: f.signed()?, end_ms: f.signed()? }))?;
                self.changes = Some(Changes { mark, ranges });
            }
            FrameKind::Resolution => self.resolution_ms = fields.signed()?,
            FrameKind::Tally => self.read_tally(&mut fields, &frame)?,
            FrameKind::Totals => self.read_totals(&mut fields, &frame)?,
            FrameKind::Counts => {
                let counts = self.counts.get_or_insert_default();
                each(&mut fields, &frame, |fields| {
                    counts.push((fields.text()?.to_owned(), fields.number()?));
                    self.tally_bytes += size_of::<(String, u64)>();
                    self.counted += 1;
                    Ok(())
                })?;
            }
            FrameKind::Newest => self.read_newest(&mut fields, &frame)?,
            FrameKind::End => {
                let listed = (self.series.len() + self.texts.len() + self.metadata.len()) as u64;
                let items = listed + self.examples + self.pairs + self.counted;
                let told = (fields.number()?, fields.number()?);
                return if told == (items, self.samples) { Ok(Step::Whole) } else { Err("a frame is missing") };
            }
            FrameKind::Error => {
                let kind = *KINDS.get(usize::from(fields.byte()?)).ok_or("a kind of error is not known")?;
                return Ok(Step::Failed(SourceError { kind, message: fields.text()?.to_owned() }));
            }
        }
        Ok(Step::More)
    }

    fn read_exemplars(&mut self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        let series = labels(fields)?;
        let some = fields.list(|fields| {
            let (t, v) = (fields.signed()?, f64::from_le_bytes(fields.fixed()?));
            Ok(Exemplar { t, v, labels: labels(fields)? })
        })?;
        self.examples += some.len() as u64;
        match self.exemplars.last_mut() {
            Some(last) if last.series == series => last.exemplars.extend(some),
            _ => self.exemplars.push(SeriesExemplars { series, exemplars: some }),
        }
        Ok(())
    }

    fn read_totals(&mut self, fields: &mut Fields<'_>, frame: &Frame) -> Result<(), Malformed> {
        if fields.byte()? > 0 {
            self.cardinality.range = Some(TimeRange { start_ms: fields.signed()?, end_ms: fields.signed()? });
        }
        each(fields, frame, |fields| {
            let class = fields.small()?;
            let (series, chunks) = (fields.number()?, fields.number()?);
            self.cardinality.tallies.insert(class, Tally { series, chunks, ..Tally::default() });
            Ok(())
        })
    }

    fn read_tally(&mut self, fields: &mut Fields<'_>, frame: &Frame) -> Result<(), Malformed> {
        let (class, name) = (fields.small()?, fields.text()?);
        let tally = self.cardinality.tallies.get_mut(&class).ok_or("a class is counted of which nothing was told")?;
        each(fields, frame, |fields| {
            let value = fields.text()?;
            self.tally_bytes += tally.add_pair(name, value, fields.number()?);
            self.pairs += 1;
            Ok(())
        })
    }

    fn read_newest(&mut self, fields: &mut Fields<'_>, frame: &Frame) -> Result<(), Malformed> {
        let base_ms = fields.signed()?;
        let groups = self.counts.as_ref().map_or(0, Vec::len);
        each(fields, frame, |fields| {
            let (hash, group) = (u64::from_le_bytes(fields.fixed()?), fields.number()?);
            let is_live = group & 1 == 1;
            let of_known = usize::try_from(group >> 1).ok().filter(|group| *group < groups);
            let group =
                of_known.and_then(|group| u32::try_from(group).ok()).ok_or("a series is of an unknown value")?;
            let t = base_ms.wrapping_add(fields.signed()?);
            self.newest.push(Newest { hash, t, group, is_live });
            self.tally_bytes += size_of::<Newest>();
            self.counted += 1;
            Ok(())
        })
    }
}

fn labels(fields: &mut Fields<'_>) -> Result<Labels, Malformed> {
    Ok(LabelsRef::from_canonical(fields.text()?).to_labels())
}

fn each<'a>(
    fields: &mut Fields<'a>,
    frame: &Frame,
    mut one: impl FnMut(&mut Fields<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while fields.at() < frame.payload.len() {
        one(fields)?;
    }
    Ok(())
}
