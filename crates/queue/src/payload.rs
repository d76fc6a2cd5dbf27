//! What a record holds: a columnar batch of series, their samples, and metadata.
//!
//! The bytes are drawn in FORMAT.md. Label names and values stand once each in a symbol table, in the form in which they stand in the
//! canonical text of a label set, so that reading a series is writing what differs over the one before: no sorting and no
//! allocation for each. A series is told by its difference to the one before, as series of one scrape differ in few labels;
//! the price is that a payload can only be read from its start. Numbers that are short as decimals are written as such.
//!
//! Start times, native histograms and exemplars, which few series have, follow at the end, and a payload without them is not larger for it.
//!
//! A payload is read completely before the first of it is shown: a consumer never acts on a part of a corrupt one.

mod cursor;
mod decode;
mod encode;
mod exemplars;
mod groups;
mod histograms;
mod labels;
mod starts;
#[cfg(test)]
mod tests;
mod times;
mod value;

pub use decode::{Decoder, Visitor};
pub use encode::Encoder;

/// First byte of a payload that has floats without starts, and nothing else.
const PLAIN: u8 = 4;
/// First byte of one that has starts or histograms: they follow what a plain one has. Only what needs it is written so, so that who reads the
/// older form alone reads on for as long as nobody sends the new.
const RICH: u8 = 5;
/// First byte of one that has exemplars: they follow what a rich one has. Written only where there are some, for the same reason.
const EXEMPLIFIED: u8 = 6;
/// Second byte: the body is an LZ4 block.
const FLAG_LZ4: u8 = 1;
/// Largest body, decompressed. Eight times the largest record, which no real payload compresses to.
const BODY_BYTES_MAX: usize = 64 << 20;

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}
