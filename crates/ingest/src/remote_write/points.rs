//! The samples of one series of a request, and how they are staged.

use model::{Exemplar, HistogramSample, LabelsRef, Sample, Samples};

use super::exemplar::{Fault, Read};
use super::histogram;
use super::protobuf::Malformed;
use crate::args::Window;
use crate::outcome::{NoExemplar, Outcome, Reason, show};
use crate::staging::{Refused, Staging};

/// Histograms, and exemplars, that are read and staged at once: of a small request each takes a hundred times its bytes.
const AT_ONCE: usize = 64;

/// The samples of one series.
#[derive(Debug, Default)]
pub(crate) struct Points {
    pub(crate) floats: Vec<Sample>,
    /// A start for each float, or none at all.
    pub(crate) starts: Vec<i64>,
    /// Where each histogram stands in the body.
    pub(crate) histograms: Vec<(usize, usize)>,
    /// Where each exemplar stands in the body.
    pub(crate) exemplars: Vec<(usize, usize)>,
}

/// The labels of a series.
pub(super) enum Named<'n, 'a> {
    /// In order, each once.
    Set(LabelsRef<'n>),
    /// As they came.
    Pairs(&'n mut [(&'a str, &'a str)]),
}

/// Samples of a series that are not taken: how many, and the first of them.
#[derive(Debug)]
pub(super) struct Left<T> {
    first: Option<T>,
    samples: u64,
}

impl<T> Default for Left<T> {
    fn default() -> Self {
        Left { first: None, samples: 0 }
    }
}

impl<T> Left<T> {
    fn add(&mut self, one: T) {
        self.samples += 1;
        self.first.get_or_insert(one);
    }
}

impl Points {
    pub(super) fn clear(&mut self) {
        self.floats.clear();
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
    }

    /// Adds a float with its start, or 0.
    pub(super) fn push(&mut self, sample: Sample, start: i64) {
        if start != 0 || !self.starts.is_empty() {
            self.starts.resize(self.floats.len(), 0);
            self.starts.push(start);
        }
        self.floats.push(sample);
    }

    /// Number of samples.
    pub(super) fn samples(&self) -> u64 {
        (self.floats.len() + self.histograms.len()) as u64
    }

    /// Removes floats that are too old or too new.
    pub(super) fn cut(&mut self, window: Window, old: &mut Left<i64>, new: &mut Left<i64>) {
        if self.floats.iter().all(|sample| window.oldest_ms <= sample.t && sample.t <= window.newest_ms) {
            return;
        }
        let mut kept = 0;
        for at in 0..self.floats.len() {
            match self.floats[at].t {
                t if t < window.oldest_ms => old.add(t),
                t if t > window.newest_ms => new.add(t),
                _ => {
                    self.floats[kept] = self.floats[at];
                    if let Some(start) = self.starts.get(at).copied() {
                        self.starts[kept] = start;
                    }
                    kept += 1;
                }
            }
        }
        self.floats.truncate(kept);
        self.starts.truncate(kept);
    }
}

impl Named<'_, '_> {
    fn push(&mut self, staging: &mut Staging, samples: Samples<'_>, exemplars: &[Exemplar]) -> Result<(), Refused> {
        match self {
            Named::Set(labels) => staging.push_labels(*labels, samples, exemplars),
            Named::Pairs(pairs) => staging.push_all(pairs, samples, exemplars),
        }
    }

    fn show(&self) -> String {
        match self {
            Named::Set(labels) => show(&labels.iter().collect::<Vec<_>>()),
            Named::Pairs(pairs) => show(pairs),
        }
    }
}

/// Stages the series of a request one after the other.
pub(super) struct Stager<'a> {
    pub(super) body: &'a [u8],
    pub(super) staging: &'a mut Staging,
    pub(super) window: Window,
    pub(super) outcome: Outcome,
    /// Number of the next series.
    place: usize,
    /// Histograms and exemplars on their way.
    histograms: Vec<HistogramSample>,
    exemplars: Vec<Exemplar>,
}

/// Reads the exemplar that a message is, which begins at a place in the body.
pub(super) type ReadExemplar<'r> = &'r dyn Fn(&[u8], usize) -> Result<Read, Malformed>;

impl<'a> Stager<'a> {
    pub(super) fn new(body: &'a [u8], staging: &'a mut Staging, window: Window, told_max: usize) -> Self {
        let outcome = Outcome::telling(told_max);
        Stager { body, staging, window, outcome, place: 0, histograms: Vec::new(), exemplars: Vec::new() }
    }

    /// Counts a series as refused whose labels cannot be read.
    pub(super) fn refuse(&mut self, points: &Points, reason: &str) {
        self.outcome.refuse_exemplars(NoExemplar::Labels, points.exemplars.len() as u64);
        self.outcome.refuse(self.place, Reason::Labels, points.samples(), || reason.to_owned());
        self.place += 1;
    }

    /// Stages what can be taken of a series. A histogram or an exemplar that is not protobuf is an error; one that is not valid is left out.
    pub(super) fn series(
        &mut self,
        mut labels: Named<'_, '_>,
        points: &mut Points,
        read: ReadExemplar<'_>,
    ) -> Result<(), Malformed> {
        let place = self.place;
        self.place += 1;
        let came = points.samples();
        let (mut old, mut new, mut invalid) = (Left::default(), Left::default(), Left::default());
        points.cut(self.window, &mut old, &mut new);
        let floats = Samples { floats: &points.floats, starts: &points.starts, histograms: &[] };
        let mut staged = labels.push(self.staging, floats, &[]);
        for some in points.histograms.chunks(AT_ONCE) {
            if staged.is_err() {
                break;
            }
            self.histograms.clear();
            for (start, end) in some {
                match histogram::read(&self.body[*start..*end], *start)? {
                    Err(reason) => invalid.add(reason),
                    Ok(sample) if sample.t < self.window.oldest_ms => old.add(sample.t),
                    Ok(sample) if sample.t > self.window.newest_ms => new.add(sample.t),
                    Ok(sample) => self.histograms.push(sample),
                }
            }
            let samples = Samples { histograms: &self.histograms, ..Samples::default() };
            staged = labels.push(self.staging, samples, &[]);
            self.outcome.histograms += self.histograms.len() as u64;
        }
        if let Err(refused) = staged {
            // Labels are refused before the first sample of a series is staged.
            self.outcome.refuse_exemplars(NoExemplar::Labels, points.exemplars.len() as u64);
            self.outcome.refuse(place, Reason::Labels, came, || format!("{}: {refused}", labels.show()));
            return Ok(());
        }
        self.outcome.samples += points.floats.len() as u64;
        self.tell(place, &labels, old, new, invalid);
        self.exemplars(place, &mut labels, points, read)
    }

    /// Stages the exemplars of a series whose labels are good.
    fn exemplars(
        &mut self,
        place: usize,
        labels: &mut Named<'_, '_>,
        points: &Points,
        read: ReadExemplar<'_>,
    ) -> Result<(), Malformed> {
        let mut told = None;
        for some in points.exemplars.chunks(AT_ONCE) {
            self.exemplars.clear();
            for (start, end) in some {
                let one = match read(&self.body[*start..*end], *start)? {
                    Ok(exemplar) => self.outcome.exemplar(Ok(exemplar), self.window),
                    Err(Fault::Invalid(invalid)) => self.outcome.exemplar(Err(invalid), self.window),
                    Err(Fault::Unreadable { reason, is_told }) => {
                        self.outcome.refuse_exemplars(NoExemplar::Labels, 1);
                        told = told.or(is_told.then_some(reason));
                        None
                    }
                };
                self.exemplars.extend(one);
            }
            // A label set that was taken just before.
            let _ = labels.push(self.staging, Samples::default(), &self.exemplars);
            self.outcome.exemplars += self.exemplars.len() as u64;
        }
        if let Some(reason) = told {
            self.outcome.refuse(place, Reason::Labels, 0, || format!("{}: exemplar: {reason}", labels.show()));
        }
        Ok(())
    }

    fn tell(&mut self, place: usize, labels: &Named<'_, '_>, old: Left<i64>, new: Left<i64>, invalid: Left<String>) {
        let Window { oldest_ms, newest_ms } = self.window;
        if let Some(t) = old.first {
            self.outcome.refuse(place, Reason::TooOld, old.samples, || {
                format!("{}: sample at {t} is older than the retention allows ({oldest_ms})", labels.show())
            });
        }
        if let Some(t) = new.first {
            self.outcome.refuse(place, Reason::TooNew, new.samples, || {
                format!("{}: sample at {t} is too far in the future (after {newest_ms})", labels.show())
            });
        }
        if let Some(reason) = invalid.first {
            self.outcome.refuse(place, Reason::NativeHistogram, invalid.samples, || {
                format!("{}: native histogram {reason}", labels.show())
            });
        }
    }
}
