//! What is written in parts is what is written at once, by a writer that knows of no parts.

use std::sync::Arc;

use model::{Buckets, Counts, Histogram, HistogramSample, Layout, METRIC_NAME, Sample};
use promql::Text;

use super::*;

/// The same, written at once.
fn at_once(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        Value::Matrix(matrix) => {
            out.extend_from_slice(b"{\"resultType\":\"matrix\",\"result\":");
            write_list(&mut out, matrix, |out, (labels, columns)| {
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
            });
        }
        Value::Vector(vector) => {
            out.extend_from_slice(b"{\"resultType\":\"vector\",\"result\":");
            write_list(&mut out, vector, |out, (labels, point)| write_element(out, labels, point));
        }
        Value::Scalar(_) | Value::String(_) => {
            begin_value(&mut out, value.clone()).write(&mut out, usize::MAX);
        }
    }
    out
}

/// The same, in pieces of at least so many bytes, none of which may be much longer.
fn in_pieces(value: Value, enough: usize, longest_part: usize) -> Vec<u8> {
    let mut piece = Vec::new();
    let mut parts = begin_value(&mut piece, value);
    let mut all = std::mem::take(&mut piece);
    loop {
        let is_whole = parts.write(&mut piece, enough);
        assert!(is_whole || piece.len() >= enough);
        assert!(piece.len() < enough + longest_part, "{} bytes where {enough} are enough", piece.len());
        all.append(&mut piece);
        if is_whole {
            return all;
        }
    }
}

/// Numbers that follow from a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn float(&mut self) -> f64 {
        match self.below(8) {
            0 => f64::NAN,
            1 => f64::NEG_INFINITY,
            2 => self.below(1000) as f64,
            3 => -(self.below(1 << 40) as f64) / 1e9,
            4 => self.below(1000) as f64 * 1e25,
            _ => self.below(1 << 40) as f64 / 1024.0,
        }
    }

    fn labels(&mut self) -> Labels {
        let values: Vec<String> = (0..self.below(4)).map(|_| "é\"<\n".repeat(self.below(6) as usize)).collect();
        let names = [METRIC_NAME, "b.c", "job", "z"];
        let pairs: Vec<(&str, &str)> =
            names.into_iter().zip(values.iter().map(String::as_str)).filter(|(_, value)| !value.is_empty()).collect();
        Labels::new(&pairs).unwrap_or_else(|_| Labels::empty())
    }

    fn histogram(&mut self) -> Histogram {
        let buckets = self.below(4) as u32;
        let positive = (0..buckets).map(|n| u64::from(n) % 2).collect();
        let counts = Counts::Integer(Buckets { count: 7, zero: self.below(2), positive, ..Buckets::default() });
        let spans = (buckets > 0).then_some(model::Span { offset: 1, length: buckets }).into_iter().collect();
        let layout = Layout { zero_threshold: 0.5, positive: spans, ..Layout::default() };
        Histogram { layout: Arc::new(layout), hint: Default::default(), sum: self.float(), counts }
    }

    fn columns(&mut self) -> Columns {
        let (floats, histograms) = (self.below(40) as i64, self.below(6) as i64);
        let mut columns = Columns::floats((0..floats).map(|n| n * 15_001).collect(), Vec::new());
        columns.v = (0..floats).map(|_| self.float()).collect();
        columns.histograms =
            (0..histograms).map(|n| HistogramSample { t: n * 7, start: 0, histogram: self.histogram() }).collect();
        columns
    }

    fn value(&mut self) -> Value {
        let number = self.below(6);
        match self.below(8) {
            0 => Value::Scalar(Sample { t: 1_500, v: self.float() }),
            1 => Value::String(Text { t: 2_000, text: "<é>".to_owned() }),
            2 | 3 => {
                let element = |draw: &mut Draw| {
                    let v = match draw.below(3) {
                        0 => Element::Histogram(Arc::new(FloatHistogram::new(&draw.histogram()))),
                        _ => Element::Float(draw.float()),
                    };
                    (draw.labels(), Point { t: 1_500, v })
                };
                Value::Vector((0..number).map(|_| element(self)).collect())
            }
            _ => Value::Matrix((0..number).map(|_| (self.labels(), self.columns())).collect()),
        }
    }
}

#[test]
fn what_is_written_in_parts_is_what_is_written_at_once() {
    for seed in 0..3_000 {
        let mut draw = Draw(seed);
        let value = draw.value();
        let enough = 1 + draw.below(400) as usize;
        let (expect, got) = (at_once(&value), in_pieces(value, enough, 700));
        let show = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        assert_eq!(show(&got), show(&expect), "seed {seed}, pieces of {enough}");
        serde_json::from_slice::<serde_json::Value>(&[&got[..], b"}"].concat()).expect("JSON");
    }
}

#[test]
fn one_long_series_is_cut_between_its_samples() {
    let columns = Columns::floats((0..100_000).map(|n| n * 15_000).collect(), vec![0.1; 100_000]);
    let value = Value::Matrix(vec![(Labels::empty(), columns)]);
    let expect = at_once(&value);
    assert!(expect.len() > 1_500_000, "{}", expect.len());
    assert!(in_pieces(value, 64 << 10, SAMPLE) == expect);
}
