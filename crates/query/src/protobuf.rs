//! Fields of protobuf messages, read in place and written one after the other.

use model::Labels;

use crate::error::Error;

/// A message that is not protobuf of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(super) &'static str);

impl From<Malformed> for Error {
    fn from(Malformed(reason): Malformed) -> Self {
        Error::Request(format!("the request is no message of remote read: {reason}"))
    }
}

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(Fields<'a>),
    Double(f64),
    /// Of four bytes, which none of the fields that are read is.
    Fixed,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Fields { bytes }
    }

    /// Number and value of the next field; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        let Some(tag) = self.number()? else { return Ok(None) };
        let more = |number: Option<u64>| number.ok_or(Malformed("it ends within a field"));
        let value = match tag & 7 {
            0 => Value::Varint(more(self.number()?)?),
            1 => Value::Double(f64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes"))),
            2 => {
                let length = more(self.number()?)?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Value::Bytes(Fields { bytes: self.take(length)? })
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed("an unknown type of a field")),
        };
        Ok(Some((tag >> 3, value)))
    }

    /// The next of numbers that follow each other; `None` at the end.
    pub(crate) fn number(&mut self) -> Result<Option<u64>, Malformed> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let mut number = 0u64;
        for (at, byte) in self.bytes.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(Some(number));
            }
        }
        Err(Malformed("it ends within a number, or one is too long"))
    }

    /// All of it as text.
    pub(crate) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Malformed("it ends within a field"))?;
        self.bytes = rest;
        Ok(taken)
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Bytes that a number takes.
pub(crate) fn varint_bytes(n: u64) -> usize {
    (u64::BITS - n.leading_zeros()).max(1).div_ceil(7) as usize
}

/// A field that is a number; nothing where that is zero, which is what is not there.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u64, n: u64) {
    if n != 0 {
        put_varint(out, field << 3);
        put_varint(out, n);
    }
}

/// As [`put_number`], with small numbers of either sign in few bytes.
pub(crate) fn put_signed(out: &mut Vec<u8>, field: u64, n: i64) {
    put_number(out, field, ((n << 1) ^ (n >> 63)) as u64);
}

/// A field that is a float; nothing where all its bits are zero.
pub(crate) fn put_double(out: &mut Vec<u8>, field: u64, v: f64) {
    if v.to_bits() != 0 {
        put_varint(out, field << 3 | 1);
        out.extend_from_slice(&v.to_le_bytes());
    }
}

/// A field that is text, bytes or a message.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A field that is a message which `write` writes.
pub(crate) fn put_message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, field << 3 | 2);
    let start = out.len();
    // Most are that short; for others room is made when their length is known.
    out.push(0);
    write(out);
    let length = out.len() - start - 1;
    let more = varint_bytes(length as u64) - 1;
    out.splice(start..start, std::iter::repeat_n(0, more));
    let mut told = Vec::with_capacity(more + 1);
    put_varint(&mut told, length as u64);
    out[start..=start + more].copy_from_slice(&told);
}

/// The labels of a series as fields `field`.
pub(crate) fn put_labels(out: &mut Vec<u8>, field: u64, labels: &Labels) {
    for (name, value) in labels.iter() {
        put_message(out, field, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_they_say() {
        for length in [0, 1, 125, 126, 127, 128, 129, 16_383, 16_384, 16_385, 3_000_000] {
            let mut out = vec![7];
            put_message(&mut out, 1, |out| out.resize(out.len() + length, b'x'));
            let mut expect = vec![7];
            put_bytes(&mut expect, 1, &vec![b'x'; length]);
            assert!(out == expect, "{length}");
        }
        for (n, bytes) in [(0, 1), (127, 1), (128, 2), (u64::MAX, 10)] {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            assert_eq!((out.len(), varint_bytes(n)), (bytes, bytes));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let check = |bytes: &[u8], reason: &'static str| {
            let mut fields = Fields::new(bytes);
            let error = loop {
                match fields.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{bytes:?} is a message"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error, Malformed(reason), "{bytes:?}");
        };
        check(&[0x08], "it ends within a field");
        check(&[0x0a, 2, 1], "it ends within a field");
        check(&[0x09, 1, 2, 3], "it ends within a field");
        check(&[0x0b], "an unknown type of a field");
        check(&[0x80], "it ends within a number, or one is too long");
        check(
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "it ends within a number, or one is too long",
        );
    }
}
