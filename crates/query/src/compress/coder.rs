//! A coding at work: bytes go in, and what has become of them is taken out.

use std::io::{self, Write as _};

use flate2::write::GzEncoder;

use super::Coding;

/// One of the codings, at its fastest level.
pub(crate) enum Coder {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Coder {
    /// `size` is how many bytes will go in, where that is known: whoever reads them can then take the right room at once.
    pub(crate) fn new(coding: Coding, size: Option<u64>) -> io::Result<Coder> {
        Ok(match coding {
            Coding::Gzip => Coder::Gzip(Box::new(GzEncoder::new(Vec::new(), flate2::Compression::fast()))),
            Coding::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 1)?;
                encoder.set_pledged_src_size(size)?;
                Coder::Zstd(encoder)
            }
        })
    }

    /// Which one it is.
    pub(crate) fn coding(&self) -> Coding {
        match self {
            Coder::Gzip(_) => Coding::Gzip,
            Coder::Zstd(_) => Coding::Zstd,
        }
    }

    /// Bytes that it takes beside what goes in and comes out, about: the window, the tables of what was seen, and its own buffers.
    pub(crate) fn memory(coding: Coding) -> usize {
        match coding {
            Coding::Gzip => 384 << 10,
            Coding::Zstd => 1536 << 10,
        }
    }

    /// Takes bytes in. Some of what becomes of them may come out only later.
    pub(crate) fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        match self {
            Coder::Gzip(encoder) => encoder.write_all(plain),
            Coder::Zstd(encoder) => encoder.write_all(plain),
        }
    }

    /// What has come out.
    pub(crate) fn out(&self) -> &Vec<u8> {
        match self {
            Coder::Gzip(encoder) => encoder.get_ref(),
            Coder::Zstd(encoder) => encoder.get_ref(),
        }
    }

    /// Takes what has come out.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Coder::Gzip(encoder) => encoder.get_mut(),
            Coder::Zstd(encoder) => encoder.get_mut(),
        })
    }

    /// Ends it: all that has not been taken.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Coder::Gzip(encoder) => encoder.finish(),
            Coder::Zstd(encoder) => encoder.finish(),
        }
    }
}
