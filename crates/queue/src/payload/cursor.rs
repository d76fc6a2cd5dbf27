//! Reading bytes that are not believed.

use crate::Error;

/// Reads bytes one after the other.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn error(&self, reason: &'static str) -> Error {
        Error::Payload { position: self.at, reason }
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn varint(&mut self) -> Result<u64, Error> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| self.error("ends too early"))?;
            self.at += 1;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(self.error("number is too long"))
    }

    /// A number of things of which each takes at least a byte, so that it is bounded by what is left.
    pub(super) fn length(&mut self) -> Result<usize, Error> {
        let n = self.varint()?;
        usize::try_from(n).ok().filter(|n| *n <= self.left()).ok_or_else(|| self.error("length is beyond the end"))
    }

    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.error("ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn text(&mut self, n: usize) -> Result<&'a str, Error> {
        let at = self.at;
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes).map_err(|_| Error::Payload { position: at, reason: "not UTF-8" })
    }
}
