//! Reads the numbers, strings and arrays of a request.
//!
//! By hand and not with the library that writes the answers: its decoder allocates for as many elements as an array says that it
//! has, before it reads any. Here an array allocates nothing in advance, and a request has a bound of elements.

use bytes::{Buf, Bytes};

/// Elements of all arrays of a request: the largest log has 1024 partitions.
const ELEMENTS_MAX: usize = 4096;

/// A request that is not what the protocol says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}, {left} bytes before the end of the request")]
pub(super) struct Malformed {
    reason: &'static str,
    left: usize,
}

/// A place in a request.
#[derive(Debug)]
pub(super) struct Reader {
    rest: Bytes,
    /// Whether lengths are varints, and tagged fields end each structure.
    pub(super) flexible: bool,
    elements: usize,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Reader { rest: bytes, flexible: false, elements: 0 }
    }

    pub(super) fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { reason, left: self.rest.len() }
    }

    /// Bytes that are not read yet.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn need(&self, n: usize) -> Result<(), Malformed> {
        if self.rest.len() < n { Err(self.malformed("ends too early")) } else { Ok(()) }
    }

    pub(super) fn i8(&mut self) -> Result<i8, Malformed> {
        self.need(1)?;
        Ok(self.rest.get_i8())
    }

    pub(super) fn i16(&mut self) -> Result<i16, Malformed> {
        self.need(2)?;
        Ok(self.rest.get_i16())
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        self.need(4)?;
        Ok(self.rest.get_i32())
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        self.need(8)?;
        Ok(self.rest.get_i64())
    }

    pub(super) fn skip(&mut self, n: usize) -> Result<(), Malformed> {
        self.need(n)?;
        self.rest.advance(n);
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut n = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.i8()? as u8;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(n).map_err(|_| self.malformed("number is too large"));
            }
        }
        Err(self.malformed("number is too long"))
    }

    /// A length in the encoding of the version; `wide` is that of bytes and arrays where it is no varint.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, Malformed> {
        let length = if self.flexible {
            i64::from(self.varint()?) - 1
        } else if wide {
            i64::from(self.i32()?)
        } else {
            i64::from(self.i16()?)
        };
        match length {
            -1 => Ok(None),
            n => usize::try_from(n).map(Some).map_err(|_| self.malformed("length is negative")),
        }
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let Some(n) = self.length(false)? else { return Ok(None) };
        self.need(n)?;
        let bytes = self.rest.split_to(n);
        std::str::from_utf8(&bytes).map(|s| Some(s.to_owned())).map_err(|_| self.malformed("string is not UTF-8"))
    }

    pub(super) fn string(&mut self) -> Result<String, Malformed> {
        self.nullable_string()?.ok_or_else(|| self.malformed("string is null"))
    }

    /// A slice of the request.
    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        let Some(n) = self.length(true)? else { return Ok(None) };
        self.need(n)?;
        Ok(Some(self.rest.split_to(n)))
    }

    /// An array whose elements `read` reads, with the tagged fields after each where `tagged`.
    pub(super) fn nullable_array<T>(
        &mut self,
        tagged: bool,
        mut read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<Vec<T>>, Malformed> {
        let Some(n) = self.length(true)? else { return Ok(None) };
        if n > ELEMENTS_MAX - self.elements {
            return Err(self.malformed("more than 4096 elements"));
        }
        self.elements += n;
        let mut out = Vec::new();
        for _ in 0..n {
            out.push(read(self)?);
            if tagged {
                self.tags()?;
            }
        }
        Ok(Some(out))
    }

    /// An array of structures.
    pub(super) fn array<T>(
        &mut self,
        read: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        self.nullable_array(true, read)?.ok_or_else(|| self.malformed("array is null"))
    }

    /// Passes over tagged fields, where the version has some.
    pub(super) fn tags(&mut self) -> Result<(), Malformed> {
        if self.flexible {
            // Each takes two bytes at least, so that this ends.
            for _ in 0..self.varint()? {
                self.varint()?;
                let n = self.varint()? as usize;
                self.skip(n)?;
            }
        }
        Ok(())
    }
}
