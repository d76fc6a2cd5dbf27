//! The requests that are served, their versions, and how each is read.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use super::wire::{Malformed, Reader};

/// A request of the protocol that is served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Api {
    pub(super) key: ApiKey,
    pub(super) min: i16,
    pub(super) max: i16,
    /// First version with varint lengths and tagged fields.
    flexible: i16,
}

const fn api(key: ApiKey, min: i16, max: i16, flexible: i16) -> Api {
    Api { key, min, max, flexible }
}

/// What is served. The lowest versions are those of Kafka 4; above the highest there are topic ids (Fetch 13, Produce 13) or
/// several groups in one request.
pub(super) const APIS: [Api; 11] = [
    api(ApiKey::Produce, 3, 9, 9),
    api(ApiKey::Fetch, 4, 12, 12),
    api(ApiKey::ListOffsets, 1, 7, 6),
    api(ApiKey::Metadata, 1, 12, 9),
    api(ApiKey::OffsetCommit, 2, 8, 8),
    api(ApiKey::OffsetFetch, 1, 7, 6),
    api(ApiKey::FindCoordinator, 0, 3, 3),
    api(ApiKey::SaslHandshake, 0, 1, i16::MAX),
    api(ApiKey::ApiVersions, 0, 4, 3),
    api(ApiKey::InitProducerId, 0, 4, 2),
    api(ApiKey::SaslAuthenticate, 0, 2, 2),
];

/// What every request begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) key: i16,
    pub(super) version: i16,
    pub(super) correlation_id: i32,
}

impl Head {
    /// Reads the head and leaves the reader at the body; the API is `None` where it or its version is not served.
    pub(super) fn read(reader: &mut Reader) -> Result<(Head, Option<Api>), Malformed> {
        let head = Head { key: reader.i16()?, version: reader.i16()?, correlation_id: reader.i32()? };
        let served = |api: &Api| api.key as i16 == head.key && (api.min..=api.max).contains(&head.version);
        let api = APIS.into_iter().find(served);
        if let Some(api) = &api {
            // The client's name has the old encoding in every version.
            reader.nullable_string()?;
            reader.flexible = head.version >= api.flexible;
            reader.tags()?;
        }
        Ok((head, api))
    }
}

/// A part of a request that is about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic<T> {
    pub(super) name: String,
    pub(super) partitions: Vec<T>,
}

/// A request that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    ApiVersions,
    SaslHandshake {
        mechanism: String,
    },
    SaslAuthenticate {
        token: Bytes,
    },
    /// `None` asks for all topics.
    Metadata {
        topics: Option<Vec<Option<String>>>,
    },
    InitProducerId {
        transactional: bool,
    },
    Produce(Produce),
    Fetch(Fetch),
    ListOffsets {
        topics: Vec<Topic<(i32, i64)>>,
    },
    FindCoordinator {
        key_type: i8,
    },
    OffsetCommit {
        group: String,
        /// -1 for a consumer that is no member.
        generation: i32,
        topics: Vec<Topic<(i32, i64)>>,
    },
    /// `None` asks for all that were committed.
    OffsetFetch {
        group: String,
        topics: Option<Vec<Topic<i32>>>,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Produce {
    pub(super) transactional: bool,
    pub(super) acks: i16,
    /// Number of the partition, and what is to be appended.
    pub(super) topics: Vec<Topic<(i32, Option<Bytes>)>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetch {
    pub(super) max_wait_ms: i32,
    pub(super) min_bytes: i32,
    pub(super) max_bytes: i32,
    /// Of an incremental session, which is not served.
    pub(super) session_epoch: i32,
    pub(super) topics: Vec<Topic<FetchPartition>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FetchPartition {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
}

impl Request {
    /// Reads the body of a request whose API and version are served.
    pub(super) fn read(api: ApiKey, version: i16, mut reader: Reader) -> Result<Request, Malformed> {
        let r = &mut reader;
        let request = match api {
            // Only the names of the program; read by nobody, and a version that is not known has other fields.
            ApiKey::ApiVersions => return Ok(Request::ApiVersions),
            ApiKey::SaslHandshake => Request::SaslHandshake { mechanism: r.string()? },
            ApiKey::SaslAuthenticate => {
                let token = r.nullable_bytes()?.ok_or_else(|| r.malformed("token is null"))?;
                Request::SaslAuthenticate { token }
            }
            ApiKey::Metadata => metadata(r, version)?,
            ApiKey::InitProducerId => init_producer_id(r, version)?,
            ApiKey::Produce => Request::Produce(produce(r)?),
            ApiKey::Fetch => Request::Fetch(fetch(r, version)?),
            ApiKey::ListOffsets => list_offsets(r, version)?,
            ApiKey::FindCoordinator => {
                let _key = r.string()?;
                Request::FindCoordinator { key_type: if version >= 1 { r.i8()? } else { 0 } }
            }
            ApiKey::OffsetCommit => offset_commit(r, version)?,
            ApiKey::OffsetFetch => offset_fetch(r, version)?,
            _ => return Err(r.malformed("request is not served")),
        };
        r.tags()?;
        if r.left() > 0 { Err(r.malformed("bytes after the end")) } else { Ok(request) }
    }
}

fn topics<T>(
    r: &mut Reader,
    mut partition: impl FnMut(&mut Reader) -> Result<T, Malformed>,
) -> Result<Vec<Topic<T>>, Malformed> {
    r.array(|r| Ok(Topic { name: r.string()?, partitions: r.array(&mut partition)? }))
}

fn metadata(r: &mut Reader, version: i16) -> Result<Request, Malformed> {
    let topics = r.nullable_array(true, |r| {
        if version >= 10 {
            r.skip(16)?; // topic id
        }
        r.nullable_string()
    })?;
    // Whether to create topics, and to tell what is allowed to whom.
    r.skip(usize::from(version >= 4) + usize::from((8..=10).contains(&version)) + usize::from(version >= 8))?;
    Ok(Request::Metadata { topics })
}

fn init_producer_id(r: &mut Reader, version: i16) -> Result<Request, Malformed> {
    let transactional = r.nullable_string()?.is_some();
    r.i32()?; // timeout of a transaction
    if version >= 3 {
        r.i64()?; // id and epoch of a producer that wants to begin anew
        r.i16()?;
    }
    Ok(Request::InitProducerId { transactional })
}

fn produce(r: &mut Reader) -> Result<Produce, Malformed> {
    let transactional = r.nullable_string()?.is_some();
    let acks = r.i16()?;
    r.i32()?; // timeout of replication
    let topics = topics(r, |r| Ok((r.i32()?, r.nullable_bytes()?)))?;
    Ok(Produce { transactional, acks, topics })
}

fn fetch(r: &mut Reader, version: i16) -> Result<Fetch, Malformed> {
    r.i32()?; // replica
    let (max_wait_ms, min_bytes, max_bytes) = (r.i32()?, r.i32()?, r.i32()?);
    r.i8()?; // isolation: there are no transactions
    let session_epoch = if version >= 7 {
        r.i32()?; // session
        r.i32()?
    } else {
        -1
    };
    let topics = topics(r, |r| {
        let partition = r.i32()?;
        if version >= 9 {
            r.i32()?; // leader epoch
        }
        let offset = r.i64()?;
        if version >= 12 {
            r.i32()?; // epoch of the last record
        }
        if version >= 5 {
            r.i64()?; // start of a follower's log
        }
        Ok(FetchPartition { partition, offset, max_bytes: r.i32()? })
    })?;
    if version >= 7 {
        // Partitions that leave the session.
        r.array(|r| {
            r.string()?;
            r.nullable_array(false, Reader::i32)
        })?;
    }
    if version >= 11 {
        r.string()?; // rack
    }
    Ok(Fetch { max_wait_ms, min_bytes, max_bytes, session_epoch, topics })
}

fn list_offsets(r: &mut Reader, version: i16) -> Result<Request, Malformed> {
    r.i32()?; // replica
    if version >= 2 {
        r.i8()?; // isolation
    }
    let topics = topics(r, |r| {
        let partition = r.i32()?;
        if version >= 4 {
            r.i32()?; // leader epoch
        }
        Ok((partition, r.i64()?))
    })?;
    Ok(Request::ListOffsets { topics })
}

fn offset_commit(r: &mut Reader, version: i16) -> Result<Request, Malformed> {
    let group = r.string()?;
    let generation = r.i32()?;
    r.string()?; // member
    if version >= 7 {
        r.nullable_string()?; // static member
    }
    if version <= 4 {
        r.i64()?; // retention of the commit
    }
    let topics = topics(r, |r| {
        let (partition, offset) = (r.i32()?, r.i64()?);
        if version >= 6 {
            r.i32()?; // leader epoch
        }
        r.nullable_string()?; // metadata
        Ok((partition, offset))
    })?;
    Ok(Request::OffsetCommit { group, generation, topics })
}

fn offset_fetch(r: &mut Reader, version: i16) -> Result<Request, Malformed> {
    let group = r.string()?;
    let topics = r.nullable_array(true, |r| {
        let name = r.string()?;
        let partitions = r.nullable_array(false, Reader::i32)?.unwrap_or_default();
        Ok(Topic { name, partitions })
    })?;
    if version >= 7 {
        r.i8()?; // whether to wait for transactions
    }
    Ok(Request::OffsetFetch { group, topics })
}

#[cfg(test)]
mod tests;
