//! Series and samples on their way into records: one encoder a partition, memory kept from one request to the next.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use model::histogram::BUCKETS_MAX;
use model::labels::{InvalidLabels, LabelsWriter};
use model::{Exemplar, HistogramSample, Labels, LabelsRef, METRIC_NAME, Metadata, MetricType, Sample, Samples};
use queue::payload::Encoder;

/// Size of a record's body from which on a new record begins. Far below [`queue::RECORD_BYTES_MAX`], so that one more series or
/// piece of metadata always fits, and large enough that a record's fixed cost does not show.
const RECORD_BYTES_TARGET: usize = 1 << 20;
/// Samples of one series that are encoded at once. An encoded sample takes at most 20 bytes, and its start as many.
const SAMPLES_MAX: usize = 16 << 10;
/// Size of the histograms of one series that are encoded at once, where they are not one.
const HISTOGRAMS_BYTES_MAX: usize = 1 << 20;
/// Size of the largest histogram: buckets and spans of both signs, and bounds.
const HISTOGRAM_BYTES_MAX: usize = 80 * BUCKETS_MAX + 100;
/// Size of a series' labels. Ten times what any exporter sends; a symbol has to fit a record.
pub(crate) const LABELS_BYTES_MAX: usize = 64 << 10;
/// Exemplars of one series that are encoded at once.
const EXEMPLARS_MAX: usize = 256;
/// Size of the largest exemplar: time, value, and 128 characters of four bytes, each a name or a value with its length.
const EXEMPLAR_BYTES_MAX: usize = 32 + 128 * 5;
const _: () =
    assert!(RECORD_BYTES_TARGET + LABELS_BYTES_MAX + EXEMPLARS_MAX * EXEMPLAR_BYTES_MAX < queue::RECORD_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_TARGET + LABELS_BYTES_MAX + 40 * SAMPLES_MAX < queue::RECORD_BYTES_MAX);
const _: () = assert!(
    RECORD_BYTES_TARGET + LABELS_BYTES_MAX + HISTOGRAMS_BYTES_MAX + HISTOGRAM_BYTES_MAX < queue::RECORD_BYTES_MAX
);
/// How often metadata is written that a sender repeats with every series, as often as Prometheus sends it where it does not.
const METADATA_INTERVAL_MS: u64 = 60_000;
/// Families of which that is remembered; as many as storage keeps. When it is full it is emptied.
const METADATA_MAX: usize = 100_000;

/// Labels that a series must not have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Invalid(#[from] InvalidLabels),
    #[error("no metric name")]
    NoName,
    #[error("labels of {0} bytes, at most {LABELS_BYTES_MAX} are taken")]
    TooLong(usize),
}

/// What one request writes.
#[derive(Default)]
pub(crate) struct Staging {
    labels: LabelsWriter,
    encoders: Vec<Encoder>,
    /// Partitions whose encoder is not empty.
    touched: Vec<u32>,
    records: Vec<(u32, Bytes)>,
    /// When metadata that is repeated was staged last, by its hash.
    repeated: HashMap<u64, i64>,
    /// A buffer for a decompressed body.
    pub(crate) body: Vec<u8>,
    /// A buffer for the samples of a series.
    pub(crate) samples: Vec<Sample>,
}

impl Staging {
    pub(crate) fn new(partitions: u32) -> Self {
        Staging { encoders: (0..partitions.max(1)).map(|_| Encoder::new()).collect(), ..Staging::default() }
    }

    /// Adds the samples of a series, whose labels may come in any order.
    pub(crate) fn push<'s>(
        &mut self,
        pairs: &mut [(&str, &str)],
        samples: impl Into<Samples<'s>>,
    ) -> Result<(), Refused> {
        self.push_all(pairs, samples, &[])
    }

    /// As [`Staging::push`], with exemplars of the series.
    pub(crate) fn push_all<'s>(
        &mut self,
        pairs: &mut [(&str, &str)],
        samples: impl Into<Samples<'s>>,
        exemplars: &[Exemplar],
    ) -> Result<(), Refused> {
        let labels = self.labels.write(pairs)?;
        if labels.canonical().len() > LABELS_BYTES_MAX {
            return Err(Refused::TooLong(labels.canonical().len()));
        }
        // Sorted now, and the name is mostly the first.
        if !pairs.iter().any(|(name, value)| *name == METRIC_NAME && !value.is_empty()) {
            return Err(Refused::NoName);
        }
        let Staging { encoders, touched, records, .. } = self;
        put(encoders, touched, records, labels, samples.into(), exemplars);
        Ok(())
    }

    /// As [`Staging::push_all`], for a label set that was made before.
    pub(crate) fn push_labels<'s>(
        &mut self,
        labels: LabelsRef<'_>,
        samples: impl Into<Samples<'s>>,
        exemplars: &[Exemplar],
    ) -> Result<(), Refused> {
        if labels.canonical().len() > LABELS_BYTES_MAX {
            return Err(Refused::TooLong(labels.canonical().len()));
        }
        if labels.get(METRIC_NAME).is_none() {
            return Err(Refused::NoName);
        }
        let Staging { encoders, touched, records, .. } = self;
        put(encoders, touched, records, labels, samples.into(), exemplars);
        Ok(())
    }

    /// Adds what is known of a family. Too long a text is cut, as it informs people and not programs.
    pub(crate) fn push_metadata(&mut self, mut metadata: Metadata) {
        if metadata.family.is_empty() || metadata.family.len() > LABELS_BYTES_MAX {
            return;
        }
        for text in [&mut metadata.help, &mut metadata.unit] {
            text.truncate(text.floor_char_boundary(LABELS_BYTES_MAX));
        }
        let Ok(labels) = Labels::new(&[(METRIC_NAME, &metadata.family)]) else { return };
        let partition = labels.as_ref().partition(self.encoders.len() as u32);
        let encoder = &mut self.encoders[partition as usize];
        if encoder.is_empty() {
            self.touched.push(partition);
        }
        encoder.push_metadata(&metadata);
        roll(encoder, partition, &mut self.records);
    }

    /// Adds what is known of a family unless that was done a short while before: some senders say it with every series, and it would be most of
    /// the log. What is staged and then not taken by the log is missing until it is said again after that while.
    pub(crate) fn repeat_metadata(&mut self, family: &str, kind: MetricType, help: &str, unit: &str, now_ms: i64) {
        let mut hasher = DefaultHasher::new();
        (family, kind, help, unit).hash(&mut hasher);
        let hash = hasher.finish();
        if self.repeated.get(&hash).is_some_and(|last_ms| last_ms.abs_diff(now_ms) < METADATA_INTERVAL_MS) {
            return;
        }
        if self.repeated.len() >= METADATA_MAX {
            self.repeated.clear();
        }
        self.repeated.insert(hash, now_ms);
        let (family, help, unit) = (family.to_owned(), help.to_owned(), unit.to_owned());
        self.push_metadata(Metadata { family, kind, help, unit });
    }

    /// The records, those of one partition in the order in which their series came. Nothing is staged any more.
    pub(crate) fn finish(&mut self) -> Vec<(u32, Bytes)> {
        for partition in self.touched.drain(..) {
            let encoder = &mut self.encoders[partition as usize];
            if !encoder.is_empty() {
                self.records.push((partition, encoder.finish()));
            }
        }
        std::mem::take(&mut self.records)
    }

    /// Memory that would be kept; about.
    pub(crate) fn bytes(&self) -> usize {
        self.body.capacity() + self.samples.capacity() * size_of::<Sample>()
    }
}

fn put(
    encoders: &mut [Encoder],
    touched: &mut Vec<u32>,
    records: &mut Vec<(u32, Bytes)>,
    labels: LabelsRef<'_>,
    samples: Samples<'_>,
    exemplars: &[Exemplar],
) {
    let partition = labels.partition(encoders.len() as u32);
    let encoder = &mut encoders[partition as usize];
    let mut push = |samples: Samples<'_>| {
        if encoder.is_empty() {
            touched.push(partition);
        }
        encoder.push(labels, samples);
        roll(encoder, partition, records);
    };
    for (n, floats) in samples.floats.chunks(SAMPLES_MAX).enumerate() {
        let from = n * SAMPLES_MAX;
        let starts = samples.starts.get(from..from + floats.len()).unwrap_or(&[]);
        push(Samples { floats, starts, histograms: &[] });
    }
    let mut rest = samples.histograms;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |sample: &&HistogramSample| {
            bytes += bytes_max(sample);
            bytes <= HISTOGRAMS_BYTES_MAX
        };
        let (histograms, later) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        push(Samples { histograms, ..Samples::default() });
        rest = later;
    }
    for some in exemplars.chunks(EXEMPLARS_MAX) {
        if encoder.is_empty() {
            touched.push(partition);
        }
        encoder.push_exemplars(labels, some);
        roll(encoder, partition, records);
    }
}

/// The most bytes that an encoded histogram takes: ten a number.
fn bytes_max(sample: &HistogramSample) -> usize {
    let layout = &sample.histogram.layout;
    let (positive, negative) = layout.buckets();
    let spans = layout.positive.len() + layout.negative.len();
    100 + 10 * (positive + negative + 2 * spans + layout.custom_values.len())
}

fn roll(encoder: &mut Encoder, partition: u32, records: &mut Vec<(u32, Bytes)>) {
    if encoder.bytes() >= RECORD_BYTES_TARGET {
        records.push((partition, encoder.finish()));
    }
}

/// An empty list with the memory of one that was used, for pairs of another lifetime.
pub(crate) fn recycle<'b>(mut pairs: Vec<(&str, &str)>) -> Vec<(&'b str, &'b str)> {
    pairs.clear();
    // Collects in place: the memory stays.
    pairs.into_iter().map(|_| ("", "")).collect()
}
