//! Questions to a storage node.

use std::time::Duration;

use model::{
    Aspect, Cancel, CardinalityRequest, Claim, Classes, CountRequest, Edges, ExemplarsRequest, LabelsRequest, MatchOp,
    Matcher, Positions, SelectRequest, TimeRange, Want,
};

use crate::{ChangesRequest, Mark};

use super::fields::{Fields, Malformed, put_bytes, put_number, put_signed};

/// Largest question that is read. A selector of query has a bound of the same order.
pub(crate) const BYTES_MAX: usize = 4 << 20;

/// What is asked. [`Question::path`] says where.
#[derive(Debug, Clone)]
pub(crate) enum Question<'a> {
    /// All samples, also where an outline is wanted.
    Select(&'a SelectRequest),
    /// Outlines of this aspect, with these edges.
    Outlines(&'a SelectRequest, Aspect, &'a [Edges]),
    LabelNames(&'a LabelsRequest),
    LabelValues(&'a str, &'a LabelsRequest),
    Metadata(Option<&'a str>),
    Exemplars(&'a ExemplarsRequest),
    Cardinality(&'a CardinalityRequest),
    Count(&'a CountRequest, Counted),
    Changes(&'a ChangesRequest),
    /// Within this time, and the records at these offsets too.
    CaughtUp(Duration, &'a Positions),
    Backlog,
}

/// What is told of series that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// How many there are.
    Numbers,
    /// The newest sample of each, with what tells it apart from others: for who asks several that may have the same ones.
    Newest,
}

/// A question that cannot be read or met; the text says why.
pub(crate) type Refused = String;

/// All aspects, in the order of their numbers.
const ASPECTS: [Aspect; 6] = [Aspect::Ends, Aspect::Falls, Aspect::Changes, Aspect::Min, Aspect::Max, Aspect::Sum];

/// The number that an aspect travels as.
fn aspect_code(aspect: Aspect) -> u8 {
    match aspect {
        Aspect::Ends => 0,
        Aspect::Falls => 1,
        Aspect::Changes => 2,
        Aspect::Min => 3,
        Aspect::Max => 4,
        Aspect::Sum => 5,
    }
}

impl<'a> Question<'a> {
    /// The question that a select is.
    pub(crate) fn of(request: &'a SelectRequest) -> Self {
        match &request.want {
            Want::Outline { aspect, edges } => Question::Outlines(request, *aspect, edges),
            Want::Samples | Want::LabelsOnly => Question::Select(request),
        }
    }

    /// Below the prefix.
    pub(crate) fn path(&self) -> &'static str {
        match self {
            Question::Select(_) => "/select",
            Question::Outlines(..) => "/outlines",
            Question::LabelNames(_) => "/label-names",
            Question::LabelValues(..) => "/label-values",
            Question::Metadata(_) => "/metadata",
            Question::Exemplars(_) => "/exemplars",
            Question::Cardinality(_) => "/cardinality",
            Question::Count(..) => "/count",
            Question::Changes(_) => "/changes",
            Question::CaughtUp(..) => "/caught-up",
            Question::Backlog => "/backlog",
        }
    }

    /// What holds the memory of the answer.
    pub(crate) fn claim(&self) -> Claim {
        match self {
            Question::Select(request) | Question::Outlines(request, ..) => request.cancel.claim().clone(),
            Question::LabelNames(request) | Question::LabelValues(_, request) => request.cancel.claim().clone(),
            Question::Exemplars(request) => request.cancel.claim().clone(),
            Question::Cardinality(request) => request.cancel.claim().clone(),
            Question::Count(request, _) => request.cancel.claim().clone(),
            Question::Metadata(_) | Question::Changes(_) | Question::CaughtUp(..) | Question::Backlog => {
                Claim::default()
            }
        }
    }

    /// The body that is posted.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Question::Select(request) => {
                put_range(&mut out, request.range);
                out.push(u8::from(request.want != Want::LabelsOnly));
                put_number(&mut out, request.series_max as u64);
                put_matchers(&mut out, &request.matchers);
            }
            Question::Outlines(request, aspect, edges) => {
                out.push(aspect_code(*aspect));
                put_number(&mut out, edges.len() as u64);
                for Edges { first_ms, step_ms, number } in *edges {
                    put_signed(&mut out, *first_ms);
                    put_signed(&mut out, *step_ms);
                    put_number(&mut out, *number as u64);
                }
                put_range(&mut out, request.range);
                put_number(&mut out, request.series_max as u64);
                put_matchers(&mut out, &request.matchers);
            }
            Question::LabelNames(request) => put_labels_request(&mut out, request),
            Question::LabelValues(name, request) => {
                put_bytes(&mut out, name.as_bytes());
                put_labels_request(&mut out, request);
            }
            Question::Metadata(family) => {
                out.push(u8::from(family.is_some()));
                family.iter().for_each(|family| put_bytes(&mut out, family.as_bytes()));
            }
            Question::Exemplars(request) => {
                put_number(&mut out, request.exemplars_max as u64);
                put_range(&mut out, request.range);
                put_sets(&mut out, &request.matcher_sets);
            }
            Question::Cardinality(request) => {
                put_number(&mut out, request.series_max as u64);
                put_number(&mut out, u64::from(request.classes.modulus));
                put_range(&mut out, request.range);
                put_sets(&mut out, &request.matcher_sets);
            }
            Question::Count(request, counted) => {
                out.push(u8::from(*counted == Counted::Newest));
                put_range(&mut out, request.range);
                put_option(&mut out, request.by.as_ref(), |out, name| put_bytes(out, name.as_bytes()));
                put_matchers(&mut out, &request.matchers);
            }
            Question::Changes(request) => {
                put_range(&mut out, request.range);
                put_option(&mut out, request.since.as_ref(), |out, Mark(marks)| put_marks(out, marks));
                put_option(&mut out, request.names.as_ref(), |out, names| {
                    put_number(out, names.len() as u64);
                    names.iter().for_each(|name| put_bytes(out, name.as_bytes()));
                });
            }
            Question::CaughtUp(timeout, positions) => {
                put_number(&mut out, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
                if !positions.is_empty() {
                    put_number(&mut out, positions.iter().count() as u64);
                    for (partition, offset) in positions.iter() {
                        put_number(&mut out, u64::from(partition));
                        put_signed(&mut out, offset);
                    }
                }
            }
            Question::Backlog => {}
        }
        out
    }
}

fn put_range(out: &mut Vec<u8>, range: TimeRange) {
    put_signed(out, range.start_ms);
    put_signed(out, range.end_ms);
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

pub(super) fn put_marks(out: &mut Vec<u8>, marks: &[(u64, u64)]) {
    put_number(out, marks.len() as u64);
    for (engine, version) in marks {
        put_number(out, *engine);
        put_number(out, *version);
    }
}

pub(super) fn marks(fields: &mut Fields<'_>) -> Result<Vec<(u64, u64)>, Malformed> {
    fields.list(|fields| Ok((fields.number()?, fields.number()?)))
}

fn put_labels_request(out: &mut Vec<u8>, request: &LabelsRequest) {
    put_range(out, request.range);
    put_sets(out, &request.matcher_sets);
}

fn put_sets(out: &mut Vec<u8>, sets: &[Vec<Matcher>]) {
    put_number(out, sets.len() as u64);
    sets.iter().for_each(|matchers| put_matchers(out, matchers));
}

fn put_matchers(out: &mut Vec<u8>, matchers: &[Matcher]) {
    put_number(out, matchers.len() as u64);
    for matcher in matchers {
        out.push(match matcher.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        put_bytes(out, matcher.name.as_bytes());
        put_bytes(out, matcher.value.as_bytes());
    }
}

/// Reads a select.
pub(crate) fn select(body: &[u8], cancel: Cancel) -> Result<SelectRequest, Refused> {
    read(body, |fields| {
        let range = range(fields)?;
        let want = match fields.byte()? {
            0 => Want::LabelsOnly,
            1 => Want::Samples,
            _ => return Err("what is wanted of the series is not known".into()),
        };
        let series_max = usize::try_from(fields.number()?).unwrap_or(usize::MAX);
        Ok(SelectRequest { matchers: matchers(fields)?, range, want, series_max, cancel })
    })
}

/// Reads a question for outlines.
pub(crate) fn outlines(body: &[u8], cancel: Cancel) -> Result<SelectRequest, Refused> {
    read(body, |fields| {
        let aspect = *ASPECTS.get(usize::from(fields.byte()?)).ok_or("what is asked of the samples is not known")?;
        let edges = fields.list(|fields| {
            let (first_ms, step_ms, number) = (fields.signed()?, fields.signed()?, fields.number()?);
            let number = usize::try_from(number).unwrap_or(usize::MAX);
            if step_ms < 1 { Err("edges do not ascend") } else { Ok(Edges { first_ms, step_ms, number }) }
        })?;
        let range = range(fields)?;
        let series_max = usize::try_from(fields.number()?).unwrap_or(usize::MAX);
        let want = Want::Outline { aspect, edges };
        Ok(SelectRequest { matchers: matchers(fields)?, range, want, series_max, cancel })
    })
}

/// Reads a question for label names.
pub(crate) fn label_names(body: &[u8], cancel: Cancel) -> Result<LabelsRequest, Refused> {
    read(body, |fields| labels_request(fields, cancel))
}

/// Reads a question for the values of a label.
pub(crate) fn label_values(body: &[u8], cancel: Cancel) -> Result<(String, LabelsRequest), Refused> {
    read(body, |fields| Ok((fields.text()?.to_owned(), labels_request(fields, cancel)?)))
}

/// Reads a question for metadata.
pub(crate) fn metadata(body: &[u8]) -> Result<Option<String>, Refused> {
    read(body, |fields| match fields.byte()? {
        0 => Ok(None),
        1 => Ok(Some(fields.text()?.to_owned())),
        _ => Err("which families are wanted is not known".into()),
    })
}

/// Reads a question for exemplars.
pub(crate) fn exemplars(body: &[u8], cancel: Cancel) -> Result<ExemplarsRequest, Refused> {
    read(body, |fields| {
        let exemplars_max = usize::try_from(fields.number()?).unwrap_or(usize::MAX);
        Ok(ExemplarsRequest { exemplars_max, range: range(fields)?, matcher_sets: sets(fields)?, cancel })
    })
}

/// Reads a question how many series there are, to one who reads a log of so many partitions.
pub(crate) fn cardinality(body: &[u8], partitions: u32, cancel: Cancel) -> Result<CardinalityRequest, Refused> {
    read(body, |fields| {
        let series_max = usize::try_from(fields.number()?).unwrap_or(usize::MAX);
        let classes = Classes { partitions, modulus: fields.small()? };
        Ok(CardinalityRequest { series_max, classes, range: range(fields)?, matcher_sets: sets(fields)?, cancel })
    })
}

/// Reads a question how many series have a newest sample.
pub(crate) fn count(body: &[u8], cancel: Cancel) -> Result<(CountRequest, Counted), Refused> {
    read(body, |fields| {
        let counted = match fields.byte()? {
            0 => Counted::Numbers,
            1 => Counted::Newest,
            _ => return Err("what is told of the series that are counted is not known".into()),
        };
        let range = range(fields)?;
        let by = option(fields, |fields| Ok(fields.text()?.to_owned()))?;
        Ok((CountRequest { matchers: matchers(fields)?, range, by, cancel }, counted))
    })
}

/// Reads a question for changes.
pub(crate) fn changes(body: &[u8], cancel: Cancel) -> Result<ChangesRequest, Refused> {
    read(body, |fields| {
        let range = range(fields)?;
        let since = option(fields, |fields| Ok(Mark(marks(fields)?)))?;
        let names = option(fields, |fields| fields.list(|fields| Ok(fields.text()?.to_owned())))?;
        Ok(ChangesRequest { since, names, range, cancel })
    })
}

fn option<'a, T>(
    fields: &mut Fields<'a>,
    read: impl FnOnce(&mut Fields<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match fields.byte()? {
        0 => Ok(None),
        1 => Ok(Some(read(fields)?)),
        _ => Err("whether something is there is neither 0 nor 1"),
    }
}

/// Reads a question whether everything is visible, and the records at some offsets.
pub(crate) fn caught_up(body: &[u8]) -> Result<(Duration, Positions), Refused> {
    read(body, |fields| {
        let timeout = Duration::from_millis(fields.number()?);
        let positions = match fields.at() == body.len() {
            true => Vec::new(),
            false => fields.list(|fields| Ok((fields.small()?, fields.signed()?)))?,
        };
        Ok((timeout, positions.into_iter().collect()))
    })
}

fn read<T>(body: &[u8], fields: impl FnOnce(&mut Fields<'_>) -> Result<T, Fault>) -> Result<T, Refused> {
    let mut at = Fields::new(body);
    let read = fields(&mut at).and_then(|read| at.end().map(|()| read).map_err(Fault::from));
    read.map_err(|Fault(reason)| format!("the question cannot be read at byte {}: {reason}", at.at()))
}

struct Fault(String);

impl From<Malformed> for Fault {
    fn from(reason: Malformed) -> Self {
        Fault(reason.to_owned())
    }
}

fn range(fields: &mut Fields<'_>) -> Result<TimeRange, Malformed> {
    Ok(TimeRange { start_ms: fields.signed()?, end_ms: fields.signed()? })
}

fn labels_request(fields: &mut Fields<'_>, cancel: Cancel) -> Result<LabelsRequest, Fault> {
    Ok(LabelsRequest { range: range(fields)?, matcher_sets: sets(fields)?, cancel })
}

fn sets(fields: &mut Fields<'_>) -> Result<Vec<Vec<Matcher>>, Fault> {
    let sets = fields.number()?;
    let mut matcher_sets = Vec::new();
    for _ in 0..sets {
        matcher_sets.push(matchers(fields)?);
    }
    Ok(matcher_sets)
}

fn matchers(fields: &mut Fields<'_>) -> Result<Vec<Matcher>, Fault> {
    let raw = fields.list(|fields| Ok((fields.byte()?, fields.text()?, fields.text()?)))?;
    let matcher = |(op, name, value): (u8, &str, &str)| {
        let op = match op {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            _ => return Err(Fault("how a matcher compares is not known".to_owned())),
        };
        Matcher::new(op, name, value).map_err(|e| Fault(e.to_string()))
    };
    raw.into_iter().map(matcher).collect()
}
