//! Results of the language as JSON, written straight to bytes, in parts: a large answer is mostly digits, and a tree of values
//! would cost a multiple of it in memory.

use model::{Columns, Labels, LabelsRef};
use promql::{Bucket, Element, FloatHistogram, Point, Value};

use crate::number::{write_fixed, write_float, write_label, write_string, write_timestamp};
use crate::parts::{List, Parts};
use crate::respond::{write_elements, write_list};

/// Writes `{"resultType":…,"result":`, and gives what comes after that, up to the brace that closes it, since statistics may follow.
pub(crate) fn begin_value(out: &mut Vec<u8>, value: Value) -> Box<dyn Parts> {
    let kind = match value {
        Value::Scalar(_) => "scalar",
        Value::String(_) => "string",
        Value::Vector(_) => "vector",
        Value::Matrix(_) => "matrix",
    };
    out.extend_from_slice(b"{\"resultType\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"result\":");
    match value {
        Value::Scalar(sample) => {
            out.push(b'[');
            write_seconds(out, sample.t);
            out.extend_from_slice(b",\"");
            write_fixed(out, sample.v);
            out.extend_from_slice(b"\"]");
            Box::new(Vec::new())
        }
        Value::String(text) => {
            out.push(b'[');
            write_seconds(out, text.t);
            out.push(b',');
            write_string(out, &text.text);
            out.push(b']');
            Box::new(Vec::new())
        }
        Value::Vector(vector) => {
            Box::new(List::new(vector, |out: &mut Vec<u8>, (labels, point)| write_element(out, &labels, &point)))
        }
        Value::Matrix(matrix) => Box::new(Matrix::new(matrix)),
    }
}

/// The series of a range query, which are many or long: a part is the head of a series, or some of its samples. Each series goes when it is written.
struct Matrix {
    series: std::vec::IntoIter<(Labels, Columns)>,
    open: Option<Open>,
    is_begun: bool,
}

/// A series whose head is written.
struct Open {
    columns: Columns,
    /// How many are written.
    floats: usize,
    histograms: usize,
}

impl Matrix {
    fn new(series: Vec<(Labels, Columns)>) -> Self {
        Matrix { series: series.into_iter(), open: None, is_begun: false }
    }
}

impl Parts for Matrix {
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        while out.len() < enough {
            if let Some(open) = &mut self.open {
                if open.write(out, enough) {
                    self.open = None;
                }
                continue;
            }
            let Some((labels, columns)) = self.series.next() else {
                out.extend_from_slice(if self.is_begun { b"]" } else { b"[]" });
                return true;
            };
            out.push(if self.is_begun { b',' } else { b'[' });
            self.is_begun = true;
            out.extend_from_slice(b"{\"metric\":");
            write_labels(out, labels.as_ref());
            self.open = Some(Open { columns, floats: 0, histograms: 0 });
        }
        false
    }
}

impl Open {
    /// Goes on with the samples; whether the series is written to its end.
    fn write(&mut self, out: &mut Vec<u8>, enough: usize) -> bool {
        let (times, values, histograms) = (&self.columns.t, &self.columns.v, &self.columns.histograms);
        while self.floats < times.len() {
            if out.len() >= enough {
                return false;
            }
            // As many as fit if each is as long as it can be, and one in any case: so it is not looked at after each.
            let room = (enough - out.len()) / SAMPLE;
            let to = (self.floats + room.max(1)).min(times.len());
            out.extend_from_slice(if self.floats == 0 { b",\"values\":[" } else { b"," });
            let some = times[self.floats..to].iter().zip(&values[self.floats..to]);
            write_elements(out, some, |out, (t, v)| write_point(out, *t, *v));
            self.floats = to;
            if to == times.len() {
                out.push(b']');
            }
        }
        while self.histograms < histograms.len() {
            if out.len() >= enough {
                return false;
            }
            let sample = &histograms[self.histograms];
            out.extend_from_slice(if self.histograms == 0 { b",\"histograms\":[" } else { b"," });
            write_histogram_point(out, sample.t, &FloatHistogram::new(&sample.histogram));
            self.histograms += 1;
            if self.histograms == histograms.len() {
                out.push(b']');
            }
        }
        out.push(b'}');
        true
    }
}

/// How many bytes a sample takes, about, and rather more: the longest time and number.
const SAMPLE: usize = 44;

/// How many bytes a result takes, about, and rather more: of a label set twice its text.
pub(crate) fn size_of_value(value: &Value) -> usize {
    const SERIES: usize = 48;
    let series = |labels: &Labels| SERIES + 2 * labels.canonical().len();
    FRAME
        + match value {
            Value::Scalar(_) => SAMPLE,
            Value::String(text) => SAMPLE + 2 * text.text.len(),
            Value::Vector(vector) => vector.iter().map(|(labels, _)| series(labels) + SAMPLE).sum(),
            Value::Matrix(matrix) => matrix.iter().map(|(labels, c)| series(labels) + c.len() * SAMPLE).sum(),
        }
}

/// How many bytes a list of texts takes, about.
pub(crate) fn size_of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> usize {
    FRAME + texts.into_iter().map(|text| 2 * text.len() + 8).sum::<usize>()
}

/// What stands around a result.
const FRAME: usize = 1024;

/// Writes a label set as an object.
pub(crate) fn write_labels(out: &mut Vec<u8>, labels: LabelsRef<'_>) {
    out.push(b'{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_label(out, name);
        out.push(b':');
        write_label(out, value);
    }
    out.push(b'}');
}

fn write_element(out: &mut Vec<u8>, labels: &Labels, point: &Point) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, labels.as_ref());
    match &point.v {
        Element::Float(v) => {
            out.extend_from_slice(b",\"value\":");
            write_point(out, point.t, *v);
        }
        Element::Histogram(histogram) => {
            out.extend_from_slice(b",\"histogram\":");
            write_histogram_point(out, point.t, histogram);
        }
    }
    out.push(b'}');
}

fn write_histogram_point(out: &mut Vec<u8>, t: i64, histogram: &FloatHistogram) {
    out.push(b'[');
    write_timestamp(out, t);
    out.extend_from_slice(b",{\"count\":\"");
    write_float(out, histogram.count());
    out.extend_from_slice(b"\",\"sum\":\"");
    write_float(out, histogram.sum());
    out.push(b'"');
    let mut buckets = histogram.buckets().filter(|bucket| bucket.count != 0.0).peekable();
    if buckets.peek().is_some() {
        out.extend_from_slice(b",\"buckets\":");
        write_list(out, buckets, |out, bucket| write_bucket(out, &bucket));
    }
    out.extend_from_slice(b"}]");
}

/// Writes which bounds belong to a bucket (0 the upper one, 1 the lower one, 2 neither, 3 both), the bounds, and how many observations it has.
fn write_bucket(out: &mut Vec<u8>, bucket: &Bucket) {
    let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
        (false, true) => b'0',
        (true, false) => b'1',
        (false, false) => b'2',
        (true, true) => b'3',
    };
    out.extend_from_slice(&[b'[', bounds]);
    for number in [bucket.lower, bucket.upper, bucket.count] {
        out.extend_from_slice(b",\"");
        write_float(out, number);
        out.push(b'"');
    }
    out.push(b']');
}

fn write_point(out: &mut Vec<u8>, t: i64, v: f64) {
    out.push(b'[');
    write_timestamp(out, t);
    out.extend_from_slice(b",\"");
    write_float(out, v);
    out.extend_from_slice(b"\"]");
}

/// The time of a scalar or a string, which Prometheus writes as any float, not with three decimals.
fn write_seconds(out: &mut Vec<u8>, ms: i64) {
    write_float(out, ms as f64 / 1000.0);
}

#[cfg(test)]
mod tests;
