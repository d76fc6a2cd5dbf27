// Prometheus remote write 1.0 as bytes: a WriteRequest in protobuf, in snappy's block format. No more of either than that needs.
//
//   WriteRequest { repeated TimeSeries timeseries = 1 }
//   TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2 }
//   Label        { string name = 1; string value = 2 }
//   Sample       { double value = 1; int64 timestamp = 2 }   timestamp in milliseconds
//
// Snappy is written as one literal, which every reader must take: nothing is compressed. The price is that bodies are larger than those of a
// real sender and that decompression costs the server less; what it buys is that a request is made once a virtual user and then only its
// values and times are set, so that the load generator does not compete for processors.

// The bytes of a varint, least significant group first. Exact up to 2^53, so it divides where a shift would cut to 32 bits.
function varint(out, n) {
  while (n >= 128) {
    out.push((n % 128) + 128);
    n = Math.floor(n / 128);
  }
  out.push(n);
}

function field(out, number, bytes) {
  out.push(number * 8 + 2);
  varint(out, bytes.length);
  for (let i = 0; i < bytes.length; i++) out.push(bytes[i]);
}

function ascii(text) {
  const out = [];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 127) throw new Error(`label text must be ASCII: ${text}`);
    out.push(code);
  }
  return out;
}

// A label as the bytes of its field in TimeSeries; a series is the concatenation of its labels, sorted by name, with __name__ among them.
export function label(name, value) {
  const inner = [];
  field(inner, 1, ascii(name));
  field(inner, 2, ascii(value));
  const out = [];
  field(out, 1, inner);
  return out;
}

// A request with one sample for each of `series` (lists of `label`s, concatenated), to be filled again and again.
export class Request {
  constructor(series) {
    this.timeBytes = time(Date.now()).length;
    const sampleBytes = 9 + 1 + this.timeBytes;
    const frames = series.map((head) => {
      const frame = [0x0a];
      varint(frame, head.length + 2 + sampleBytes);
      return frame.concat(head, [0x12, sampleBytes, 0x09]);
    });
    const messageBytes = frames.reduce((sum, frame) => sum + frame.length + sampleBytes - 1, 0);
    const start = literal(messageBytes);
    this.bytes = new Uint8Array(start.length + messageBytes);
    this.view = new DataView(this.bytes.buffer);
    this.bytes.set(start, 0);
    this.values = [];
    let at = start.length;
    for (const frame of frames) {
      this.bytes.set(frame, at);
      at += frame.length;
      this.values.push(at);
      this.bytes[at + 8] = 0x10;
      at += sampleBytes - 1;
    }
  }

  // The body with all samples at `timestamp`, of which that of series i has `value(i)`. Valid until the next call.
  body(timestamp, value) {
    const encoded = time(timestamp);
    if (encoded.length !== this.timeBytes) throw new Error(`a timestamp of another size: ${timestamp}`);
    for (let i = 0; i < this.values.length; i++) {
      this.view.setFloat64(this.values[i], value(i), true);
      this.bytes.set(encoded, this.values[i] + 9);
    }
    return this.bytes.buffer;
  }
}

function time(timestamp) {
  const out = [];
  varint(out, timestamp);
  return out;
}

// How a snappy block of `length` bytes begins: their number, then one literal of tag 63, whose length less one follows in four bytes.
function literal(length) {
  const out = [];
  varint(out, length);
  const n = length - 1;
  out.push(63 << 2, n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24);
  return out;
}
