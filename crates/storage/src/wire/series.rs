//! Frames of series, written and read: those with samples, and those with outlines of them.

use bytes::Bytes;
use model::{Columns, Kind, Labels, LabelsRef, Outline, SeriesData, SourceError, TimeRange};
use tsdb::chunk::{self, Piece};

use super::fields::{Fields, Malformed, put_bytes, put_number};
use super::frame::{FrameKind, TARGET, begin, finish, payload_bytes};

/// What is said of the samples of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    /// They are all there.
    #[default]
    Samples,
    /// Some may stand for others.
    Outline,
}

/// Writes series into frames. A series that is larger than a frame goes on in the next.
#[derive(Default)]
pub(crate) struct SeriesWriter {
    form: Form,
    frames: Vec<Bytes>,
    open: Option<Vec<u8>>,
    /// Labels of the series before in the open frame.
    before: String,
    scratch: chunk::Scratch,
    chunks: Vec<u8>,
    /// For which samples others are left out, before the chunks.
    standing: Vec<u8>,
    pub(crate) bytes: usize,
}

impl SeriesWriter {
    /// For series of this form.
    pub(crate) fn new(form: Form) -> Self {
        SeriesWriter { form, ..SeriesWriter::default() }
    }

    /// Appends a series with its samples, ascending. Of those of an outline some may stand for others, as [`Outline::left_out`] says.
    pub(crate) fn push(&mut self, labels: &Labels, samples: &Columns, left_out: &[u64]) {
        let (mut pieces, mut floats) = (chunk::pieces(samples).peekable(), 0);
        loop {
            self.chunks.clear();
            let (first, mut number) = (floats, 0);
            while self.chunks.len() < TARGET {
                let Some(piece) = pieces.next() else { break };
                piece.encode(&mut self.scratch, &mut self.chunks);
                number += piece.samples();
                floats += if matches!(piece, Piece::Histograms(_)) { 0 } else { piece.samples() };
            }
            self.standing.clear();
            if self.form == Form::Outline {
                put_standing(&mut self.standing, left_out.get(first..floats).unwrap_or_default());
            }
            self.entry(labels.canonical(), number);
            if pieces.peek().is_none() {
                break;
            }
        }
    }

    fn entry(&mut self, labels: &str, samples: usize) {
        let kind = if self.form == Form::Outline { FrameKind::Outlines } else { FrameKind::Series };
        let out = self.open.get_or_insert_with(|| begin(kind));
        let shared = self.before.bytes().zip(labels.bytes()).take_while(|(a, b)| a == b).count();
        put_number(out, shared as u64);
        put_bytes(out, &labels.as_bytes()[shared..]);
        put_number(out, samples as u64);
        put_number(out, (self.standing.len() + self.chunks.len()) as u64);
        out.extend_from_slice(&self.standing);
        out.extend_from_slice(&self.chunks);
        self.before.clear();
        self.before.push_str(labels);
        if payload_bytes(out) >= TARGET {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        if let Some(frame) = self.open.take() {
            self.bytes += frame.len();
            self.frames.push(finish(frame));
            // Each frame can be read without those before it.
            self.before.clear();
        }
    }

    /// The frames.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        self.end_frame();
        self.frames
    }
}

/// A list of the floats that stand for others: how many are between it and the one before, and how many it stands for.
fn put_standing(out: &mut Vec<u8>, left_out: &[u64]) {
    let standing = || left_out.iter().enumerate().filter(|(_, left_out)| **left_out > 0);
    put_number(out, standing().count() as u64);
    let mut next = 0;
    for (at, left_out) in standing() {
        put_number(out, (at - next) as u64);
        put_number(out, *left_out);
        next = at + 1;
    }
}

/// Samples of one series as they came, or an outline of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encoded {
    form: Form,
    first: Bytes,
    /// Of a series that was larger than a frame.
    more: Vec<Bytes>,
}

impl Encoded {
    /// Whether some samples stand for others, so that these are not all.
    pub(crate) fn leaves_out(&self) -> bool {
        // Where none does the list is empty, which is one byte.
        self.form == Form::Outline && self.parts().any(|part| part.first() != Some(&0))
    }

    fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Appends the samples with what they stand for.
    pub(crate) fn outline(&self, out: &mut Outline) -> Result<(), SourceError> {
        let mut standing = Vec::new();
        self.decode(&mut out.columns, &mut standing).map_err(corrupt)?;
        if !standing.is_empty() {
            out.left_out.resize(out.columns.len(), 0);
            standing.into_iter().for_each(|(at, left_out)| out.left_out[at] = left_out);
        }
        out.pad();
        Ok(())
    }

    /// Appends the samples to `out`, and the places of those that stand for others to `standing`, with how many these are.
    fn decode(&self, out: &mut Columns, standing: &mut Vec<(usize, u64)>) -> Result<(), Malformed> {
        let mut all = 0u64;
        for bytes in self.parts() {
            let (mut at, mut next, first) = (0, out.len(), standing.len());
            if self.form == Form::Outline {
                let mut fields = Fields::new(bytes);
                for (skipped, left_out) in fields.list(|fields| Ok((fields.small()?, fields.number()?)))? {
                    next += skipped as usize;
                    standing.push((next, left_out));
                    next += 1;
                    // Numbers are added up.
                    all = all.checked_add(left_out).ok_or("too many samples are left out")?;
                }
                at = fields.at();
            }
            while at < bytes.len() {
                at += chunk::decode(&bytes[at..], out)?;
            }
            if standing.len() > first && next > out.len() {
                return Err("samples that are not there stand for others");
            }
        }
        Ok(())
    }
}

impl SeriesData for Encoded {
    fn read(&self, range: TimeRange, out: &mut Columns) -> Result<(), SourceError> {
        let (start, mut standing) = (out.mark(), Vec::new());
        self.decode(out, &mut standing).map_err(corrupt)?;
        if !standing.is_empty() {
            return Err(corrupt("they are not all"));
        }
        out.clip(start, range);
        Ok(())
    }
}

fn corrupt(reason: &str) -> SourceError {
    SourceError { kind: Kind::Corrupt, message: format!("samples that a storage node sent cannot be read: {reason}") }
}

/// Appends the series of a frame to those before, and returns how many samples it has.
pub(super) fn read(payload: &Bytes, form: Form, series: &mut Vec<(Labels, Encoded)>) -> Result<u64, Malformed> {
    let (mut fields, mut samples) = (Fields::new(payload), 0);
    let mut labels: Vec<u8> = Vec::new();
    while fields.at() < payload.len() {
        let shared = fields.number()?;
        let shared = usize::try_from(shared).ok().filter(|n| *n <= labels.len()).ok_or("shared labels")?;
        labels.truncate(shared);
        labels.extend_from_slice(fields.bytes()?);
        samples += fields.number()?;
        let chunks = payload.slice_ref(fields.bytes()?);
        let text = std::str::from_utf8(&labels).map_err(|_| "labels are not UTF-8")?;
        match series.last_mut() {
            Some((before, encoded)) if before.canonical() == text && encoded.form == form => encoded.more.push(chunks),
            Some((before, _)) if before.canonical() >= text => return Err("series do not ascend"),
            _ => {
                let labels = LabelsRef::from_canonical(text).to_labels();
                series.push((labels, Encoded { form, first: chunks, more: Vec::new() }));
            }
        }
    }
    Ok(samples)
}
