//! `io.prometheus.client.MetricFamily`: the messages of `/federate`, which have native histograms.
//!
//! Fields are written in the order of their numbers and zeros too, as Prometheus writes them. A family of many series is several messages of one name, of
//! which a client makes the same; so a message has a bound.

use model::METRIC_NAME;

use super::format::{Encoding, Format};
use super::histogram::Floats;
use super::{Escaping, Kind, Newest, Value, words};
use crate::protobuf::{put_bytes, put_message, put_varint};

/// Series in a message: some hundred kilobytes.
pub(super) const SERIES_MAX: usize = 1000;

/// Writes series of one name and kind as a message, in a format that is of such.
pub(super) fn write_family(out: &mut Vec<u8>, series: &[Newest], format: Format) {
    let Some(first) = series.first() else { return };
    let message = family(first, series, format.escaping);
    if format.encoding == Encoding::Delimited {
        put_varint(out, message.len() as u64);
        out.extend_from_slice(&message);
        return;
    }
    let mut text = String::new();
    words::write_family(&mut text, &message, format.encoding == Encoding::Words).expect("a message of those fields");
    out.extend_from_slice(text.as_bytes());
}

fn family(first: &Newest, series: &[Newest], escaping: Escaping) -> Vec<u8> {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, escaping.of(first.labels.metric_name()).as_bytes());
    // `MetricType` of the messages.
    number(
        &mut message,
        3,
        match first.kind() {
            Kind::Untyped => 3,
            Kind::Histogram => 4,
            Kind::GaugeHistogram => 5,
        },
    );
    for one in series {
        put_message(&mut message, 4, |out| write_series(out, one, escaping));
    }
    message
}

fn write_series(out: &mut Vec<u8>, one: &Newest, escaping: Escaping) {
    for (name, value) in one.labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        write_label(out, &escaping.of(name), value);
    }
    // Else the scrape would give it the instance of Weir.
    if one.labels.get("instance").is_none() {
        write_label(out, "instance", "");
    }
    if let Value::Float(v) = one.value {
        put_message(out, 5, |out| double(out, 1, v));
    }
    number(out, 6, one.t as u64);
    if let Value::Histogram(h) = &one.value {
        let floats = Floats::of(h);
        match floats.classic() {
            Some(buckets) => put_message(out, 7, |out| {
                double(out, 2, floats.sum);
                for (bound, count) in buckets {
                    put_message(out, 3, |out| {
                        double(out, 2, bound);
                        double(out, 4, count);
                    });
                }
                double(out, 4, floats.count);
            }),
            None => put_message(out, 7, |out| write_native(out, &floats)),
        }
    }
}

fn write_label(out: &mut Vec<u8>, name: &str, value: &str) {
    put_message(out, 1, |out| {
        put_bytes(out, 1, name.as_bytes());
        put_bytes(out, 2, value.as_bytes());
    });
}

fn write_native(out: &mut Vec<u8>, h: &Floats) {
    double(out, 2, h.sum);
    double(out, 4, h.count);
    number(out, 5, zigzag(h.layout.schema));
    double(out, 6, h.layout.zero_threshold);
    double(out, 8, h.zero);
    for (field, spans, counts) in [(9, &h.layout.negative, &h.negative), (12, &h.layout.positive, &h.positive)] {
        for span in spans {
            put_message(out, field, |out| {
                number(out, 1, zigzag(span.offset));
                number(out, 2, u64::from(span.length));
            });
        }
        counts.iter().for_each(|count| double(out, field + 2, *count));
    }
}

fn number(out: &mut Vec<u8>, field: u64, n: u64) {
    put_varint(out, field << 3);
    put_varint(out, n);
}

fn double(out: &mut Vec<u8>, field: u64, v: f64) {
    put_varint(out, field << 3 | 1);
    out.extend_from_slice(&v.to_le_bytes());
}

/// Small numbers of either sign in few bytes.
fn zigzag(n: i32) -> u64 {
    u64::from(((n << 1) ^ (n >> 31)) as u32)
}
