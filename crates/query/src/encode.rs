//! Results of the language as JSON, written straight to bytes: a large answer is mostly digits, and a tree of values
//! would cost a multiple of it in memory.

use model::{Columns, Labels, LabelsRef};
use promql::{Bucket, Element, FloatHistogram, Point, Value};

use crate::number::{write_fixed, write_float, write_label, write_string, write_timestamp};
use crate::respond::write_list;

/// Writes `{"resultType":…,"result":…` without the closing brace, since statistics may follow.
pub(crate) fn write_value(out: &mut Vec<u8>, value: &Value) {
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
        }
        Value::String(text) => {
            out.push(b'[');
            write_seconds(out, text.t);
            out.push(b',');
            write_string(out, &text.text);
            out.push(b']');
        }
        Value::Vector(vector) => write_list(out, vector, |out, (labels, point)| write_element(out, labels, point)),
        Value::Matrix(matrix) => write_list(out, matrix, |out, (labels, columns)| write_series(out, labels, columns)),
    }
}

/// How many bytes a result takes, about, and rather more: of a label set twice its text, of a sample the longest time and number.
pub(crate) fn size_of_value(value: &Value) -> usize {
    const SAMPLE: usize = 44;
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

fn write_series(out: &mut Vec<u8>, labels: &Labels, columns: &Columns) {
    out.extend_from_slice(b"{\"metric\":");
    write_labels(out, labels.as_ref());
    if !columns.t.is_empty() {
        out.extend_from_slice(b",\"values\":");
        write_list(out, columns.t.iter().zip(&columns.v), |out, (t, v)| write_point(out, *t, *v));
    }
    if !columns.histograms.is_empty() {
        out.extend_from_slice(b",\"histograms\":");
        write_list(out, &columns.histograms, |out, sample| {
            write_histogram_point(out, sample.t, &FloatHistogram::new(&sample.histogram));
        });
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
