//! `prometheus.WriteRequest` of remote write 1.0, as far as a process needs it to tell of itself: series of one sample, and metadata.
//!
//! Written by hand since these are six fields; a library would bring its build step and a tree of types.
//!
//! ```text
//! WriteRequest    { 1: TimeSeries*, 3: MetricMetadata* }
//! TimeSeries      { 1: Label*, 2: Sample* }
//! Label           { 1: name, 2: value }
//! Sample          { 1: value (fixed64), 2: timestamp in ms (varint) }
//! MetricMetadata  { 1: type (varint), 2: metric family, 4: help }
//! ```

use super::reading::{Kind, Sink};

/// Wire types of protocol buffers.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;

/// A request that is being written.
#[derive(Debug)]
pub(super) struct WriteRequest {
    bytes: Vec<u8>,
    samples: usize,
    now_ms: i64,
    with_metadata: bool,
    /// Kept for their memory.
    series: Vec<u8>,
    part: Vec<u8>,
}

impl WriteRequest {
    pub(super) fn new(now_ms: i64, with_metadata: bool) -> Self {
        WriteRequest { bytes: Vec::new(), samples: 0, now_ms, with_metadata, series: Vec::new(), part: Vec::new() }
    }

    /// How many samples it has.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// The body of the request.
    pub(super) fn compressed(&self) -> Result<Vec<u8>, snap::Error> {
        snap::raw::Encoder::new().compress_vec(&self.bytes)
    }
}

impl Sink for WriteRequest {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        if !self.with_metadata {
            return;
        }
        self.part.clear();
        let kind = match kind {
            Kind::Counter => 1,
            Kind::Gauge => 2,
            Kind::Histogram => 3,
        };
        self.part.extend_from_slice(&[1 << 3 | VARINT, kind]);
        bytes(&mut self.part, 2, name.as_bytes());
        bytes(&mut self.part, 4, help.as_bytes());
        bytes(&mut self.bytes, 3, &self.part);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.series.clear();
        for (name, value) in labels {
            self.part.clear();
            bytes(&mut self.part, 1, name.as_bytes());
            bytes(&mut self.part, 2, value.as_bytes());
            bytes(&mut self.series, 1, &self.part);
        }
        self.part.clear();
        self.part.push(1 << 3 | FIXED64);
        self.part.extend_from_slice(&value.to_le_bytes());
        self.part.push(2 << 3 | VARINT);
        // A negative number travels as its two's complement.
        varint(&mut self.part, self.now_ms as u64);
        bytes(&mut self.series, 2, &self.part);
        bytes(&mut self.bytes, 1, &self.series);
        self.samples += 1;
    }
}

fn bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_bytes_that_the_protocol_says() {
        let mut request = WriteRequest::new(300, true);
        request.family("a", Kind::Histogram, "h");
        request.sample(&[("__name__", "a"), ("x", "é")], 1.0);
        let mut expect = vec![0x1a, 8, 0x08, 3, 0x12, 1, b'a', 0x22, 1, b'h'];
        expect.extend_from_slice(&[0x0a, 38]);
        expect.extend_from_slice(b"\x0a\x0d\x0a\x08__name__\x12\x01a");
        expect.extend_from_slice(b"\x0a\x07\x0a\x01x\x12\x02\xc3\xa9");
        expect.extend_from_slice(&[0x12, 12, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xac, 0x02]);
        assert_eq!(request.bytes, expect);
        assert_eq!(request.samples(), 1);
        let plain = snap::raw::Decoder::new().decompress_vec(&request.compressed().expect("compressed"));
        assert_eq!(plain.expect("snappy"), expect);
    }

    #[test]
    fn metadata_is_left_out_where_it_was_said() {
        let mut request = WriteRequest::new(1, false);
        request.family("a", Kind::Gauge, "h");
        assert_eq!(request.bytes, [0u8; 0]);
    }
}
