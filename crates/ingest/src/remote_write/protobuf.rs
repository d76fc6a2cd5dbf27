//! Fields of protobuf messages, read in place. Nothing is believed of a length or a tag; a field is a part of the bytes that are there.

/// A message that is not protobuf of this type. None of it was shown complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {position}")]
pub(crate) struct Malformed {
    /// Byte in the decompressed body, of the field that cannot be read or of the message around it.
    pub(crate) position: usize,
    pub(crate) reason: &'static str,
}

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begins in the whole.
    pub(super) base: usize,
}

/// The value of a field.
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(Fields<'a>),
    Fixed32,
}

impl<'a> Fields<'a> {
    /// The fields of a message that begins at `base` of the whole.
    pub(super) fn new(bytes: &'a [u8], base: usize) -> Self {
        Fields { bytes, at: 0, base }
    }

    /// Whether there is nothing more.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn span(&self) -> (usize, usize) {
        (self.base, self.base + self.bytes.len())
    }

    #[cold]
    pub(super) fn malformed(&self, reason: &'static str) -> Malformed {
        Malformed { position: self.base + self.at, reason }
    }

    /// Number and value of the next field; `None` at the end.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?;
                Value::Fixed64(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
            }
            2 => {
                let length = self.varint()?;
                let base = self.base + self.at;
                let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                Value::Bytes(Fields { bytes, at: 0, base })
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            _ => return Err(self.malformed("unknown wire type")),
        };
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(self.malformed("field number out of range"));
        }
        Ok(Some((number, value)))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..length));
        let bytes = bytes.ok_or_else(|| self.malformed("field is longer than its message"))?;
        self.at += length;
        Ok(bytes)
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        match self.bytes.get(self.at) {
            Some(byte) if *byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (at, byte) in self.bytes[self.at..].iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                if at == 9 && *byte > 1 {
                    return Err(self.malformed("number longer than 64 bits"));
                }
                self.at += at + 1;
                return Ok(number);
            }
        }
        Err(self.malformed(if self.bytes.len() - self.at < 10 {
            "message ends within a number"
        } else {
            "number longer than 64 bits"
        }))
    }
}
