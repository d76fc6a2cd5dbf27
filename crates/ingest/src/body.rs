//! Reads the body of a request: within its limit, its time, and the budget of all requests; and takes gzip off.
//!
//! The length that a client announces is checked and never trusted: memory is taken as bytes come.

use std::io::Read;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;

use crate::admission::Hold;
use crate::{Args, Error};

/// Steps in which a gzip body is inflated, and in which the budget is asked for memory.
const INFLATE_STEP: usize = 64 << 10;

/// The bytes of the body as they come.
pub(crate) async fn read(headers: &HeaderMap, body: Body, args: &Args, hold: &mut Hold) -> Result<Bytes, Error> {
    let limit = args.ingest_body_bytes_max;
    if let Some(announced) = headers.get(header::CONTENT_LENGTH) {
        let announced = announced.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        if let Some(bytes) = announced.filter(|bytes| *bytes > limit as u64) {
            return Err(too_large("body", bytes, limit));
        }
    }
    tokio::time::timeout(args.ingest_body_timeout, gather(body, limit, hold))
        .await
        .unwrap_or(Err(Error::Slow(args.ingest_body_timeout)))
}

async fn gather(body: Body, limit: usize, hold: &mut Hold) -> Result<Bytes, Error> {
    let mut chunks = body.into_data_stream();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Error::Invalid(format!("the body broke off after {length} bytes: {error}")))?;
        length += chunk.len();
        if length > limit {
            return Err(too_large("body", length as u64, limit));
        }
        hold.grow(chunk.len())?;
        if first.is_empty() {
            // Most bodies come in one piece, which then needs no copy.
            first = chunk;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&chunk);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
        match value.as_bytes() {
            b"" | b"identity" => Ok(Encoding::Identity),
            b"gzip" | b"x-gzip" => Ok(Encoding::Gzip),
            _ => {
                Err(Error::Unsupported(format!("Content-Encoding {value:?} is not supported here; send gzip or none")))
            }
        }
    }
}

/// The body without its encoding.
pub(crate) fn decode(encoding: Encoding, body: Bytes, limit: usize, hold: &mut Hold) -> Result<Bytes, Error> {
    if encoding == Encoding::Identity {
        return Ok(body);
    }
    let mut decoder = MultiGzDecoder::new(&body[..]);
    let mut out = Vec::new();
    loop {
        let length = out.len();
        hold.grow(INFLATE_STEP)?;
        let read = decoder.by_ref().take(INFLATE_STEP as u64).read_to_end(&mut out);
        read.map_err(|error| Error::Invalid(format!("body is not valid gzip: {error}")))?;
        if out.len() > limit {
            return Err(too_large("decompressed body", out.len() as u64, limit));
        }
        if out.len() == length {
            return Ok(Bytes::from(out));
        }
    }
}

pub(crate) fn too_large(what: &'static str, bytes: u64, limit: usize) -> Error {
    Error::TooLarge { what, bytes, bytes_max: limit as u64 }
}
