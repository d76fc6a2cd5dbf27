//! A batch that another writer made: what is asked of it before it may be stored as it came.
//!
//! Everything that a reader of the log relies on is checked here, once, so that no bytes from the network can later look like
//! damage of the disk. The price: the records are walked before they are written, about a millisecond for the largest batch.

use bytes::Bytes;

use super::{HEADER, Header, check, records};
use crate::{RECORD_BYTES_MAX, Record};

/// Largest batch that is taken: what a group commit of this log makes at most, which is a group that was one byte short of
/// 4 MiB and got a record of 8 MiB, with what 4096 records take beside their payloads.
pub(crate) const BATCH_BYTES_MAX: usize = (12 << 20) + (256 << 10);
/// Records of one batch: ten times the default of librdkafka. They are walked one by one and each takes 48 bytes of memory.
pub(crate) const BATCH_RECORDS_MAX: i64 = 100_000;

/// A batch that may be stored.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// The batch, in an allocation of its own.
    pub(crate) bytes: Bytes,
    pub(crate) header: Header,
    /// Its records, with offsets that begin at 0.
    pub(crate) records: Vec<Record>,
}

/// Why a batch is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The bytes are not those that the writer sent.
    Corrupt(&'static str),
    /// A message of before version 2.
    OldFormat,
    /// Its records are compressed.
    Compressed,
    /// More bytes or records than are taken.
    TooLarge(&'static str),
    /// Its times are not those of its records, or are to be set by the log.
    Timestamp(&'static str),
    /// Anything else that does not make sense.
    Invalid(&'static str),
}

impl Foreign {
    /// Checks what stands in one partition of a produce request: exactly one batch.
    pub(crate) fn read(given: &[u8]) -> Result<Foreign, Refusal> {
        if given.len() < HEADER {
            // An old message may be shorter than the header of a batch; its version stands at the same place.
            let old = given.get(16).is_some_and(|magic| *magic < 2);
            return Err(if old { Refusal::OldFormat } else { Refusal::Invalid("no record batch") });
        }
        if given[16] < 2 {
            return Err(Refusal::OldFormat);
        }
        if given.len() > BATCH_BYTES_MAX {
            return Err(Refusal::TooLarge("batch is larger than 12.25 MiB"));
        }
        let attributes = u16::from_be_bytes([given[21], given[22]]);
        if attributes & 0b111 != 0 {
            // Whether it is whole is asked first: damage may look like compression.
            checksum(given)?;
            return Err(Refusal::Compressed);
        }
        if attributes & 0b11_0000 != 0 {
            return Err(Refusal::Invalid("transactional or control batch"));
        }
        if attributes & 0b1000 != 0 {
            return Err(Refusal::Timestamp("the time of append is not the writer's to set"));
        }
        checksum(given)?;
        let header = check(given).map_err(Refusal::Invalid)?;
        if header.bytes != given.len() {
            return Err(Refusal::Invalid("more than one batch"));
        }
        if header.records > BATCH_RECORDS_MAX {
            return Err(Refusal::TooLarge("batch has more than 100000 records"));
        }
        if header.producer.is_some_and(|p| p.epoch < 0 || p.sequence < 0) {
            return Err(Refusal::Invalid("producer without an epoch or a sequence"));
        }
        Foreign::walk(given, header)
    }

    fn walk(given: &[u8], header: Header) -> Result<Foreign, Refusal> {
        // Not a slice of the request: that would keep all of it in memory for as long as one of its records.
        let bytes = Bytes::copy_from_slice(given);
        let mut records = records(&bytes).map_err(Refusal::Invalid)?;
        if records.iter().any(|r| r.payload.len() > RECORD_BYTES_MAX) {
            return Err(Refusal::TooLarge("a record is larger than 8 MiB"));
        }
        // It decides when the segment is old.
        if records.iter().map(|r| r.timestamp_ms).max() != Some(header.max_timestamp) {
            return Err(Refusal::Timestamp("largest time of the batch is not that of its records"));
        }
        for (record, offset) in records.iter_mut().zip(0..) {
            record.offset = offset;
        }
        // Keys and headers are no part of a record here, and must not stay in memory for its sake.
        let payload: usize = records.iter().map(|r| r.payload.len()).sum();
        if payload < bytes.len() / 2 {
            records.iter_mut().for_each(|r| r.payload = Bytes::copy_from_slice(&r.payload));
        }
        Ok(Foreign { bytes, header, records })
    }
}

/// Whether the length and the checksum are right, before anything else is made of the bytes.
fn checksum(given: &[u8]) -> Result<(), Refusal> {
    let length = i32::from_be_bytes(given[8..12].try_into().expect("four bytes"));
    let end = usize::try_from(length).ok().map(|n| n + super::BEFORE_LENGTH);
    let batch = end.filter(|end| *end >= HEADER).and_then(|end| given.get(..end));
    let batch = batch.ok_or(Refusal::Corrupt("length of the batch is not that of its bytes"))?;
    let stored = u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
    if crc32c::crc32c(&batch[super::BEFORE_CHECKED..]) != stored {
        return Err(Refusal::Corrupt("checksum of the batch is wrong"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{BEFORE_CHECKED, Producer, write};
    use super::*;

    fn batch(producer: Option<Producer>, payloads: &[&[u8]]) -> Vec<u8> {
        let records: Vec<_> = payloads.iter().map(|p| (5, Bytes::copy_from_slice(p))).collect();
        let mut out = Vec::new();
        write(&mut out, 77, producer, &records);
        out
    }

    /// With other bytes at a place, and a checksum that fits.
    fn with(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let checksum = crc32c::crc32c(&batch[BEFORE_CHECKED..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        batch
    }

    fn check(given: &[u8], expect: Refusal) {
        assert_eq!(Foreign::read(given).map(|f| f.header), Err(expect));
    }

    #[test]
    fn a_batch_of_another_writer_is_taken_with_offsets_from_zero() {
        let producer = Producer { id: 4, epoch: 1, sequence: 9 };
        let read = Foreign::read(&batch(Some(producer), &[b"a", b"", b"c"])).expect("taken");
        assert_eq!(read.header.producer, Some(producer));
        let seen: Vec<_> = read.records.iter().map(|r| (r.offset, r.timestamp_ms, &*r.payload)).collect();
        assert_eq!(seen, [(0, 5, &b"a"[..]), (1, 5, b""), (2, 5, b"c")]);
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_its_reason() {
        let good = batch(None, &[b"abc"]);
        check(&[], Refusal::Invalid("no record batch"));
        check(&[0; 30], Refusal::OldFormat);
        check(&with(good.clone(), 16, &[1]), Refusal::OldFormat);
        check(&with(good.clone(), 16, &[3]), Refusal::Invalid("not a record batch of version 2"));
        for codec in 1..=4 {
            check(&with(good.clone(), 22, &[codec]), Refusal::Compressed);
        }
        check(&with(good.clone(), 22, &[16]), Refusal::Invalid("transactional or control batch"));
        check(&with(good.clone(), 22, &[32]), Refusal::Invalid("transactional or control batch"));
        check(&with(good.clone(), 22, &[8]), Refusal::Timestamp("the time of append is not the writer's to set"));
        let late = i64::MAX.to_be_bytes();
        check(
            &with(good.clone(), 35, &late),
            Refusal::Timestamp("largest time of the batch is not that of its records"),
        );
        let many = [[0, 0, 0, 200], [0, 0, 0, 201]];
        let many = with(with(good.clone(), 23, &many[0]), 57, &many[1]);
        check(&many, Refusal::Invalid("batch is too short for its number of records"));
        let negative = with(with(good.clone(), 43, &7i64.to_be_bytes()), 51, &(-1i16).to_be_bytes());
        check(&negative, Refusal::Invalid("producer without an epoch or a sequence"));
        check(&[good.clone(), good.clone()].concat(), Refusal::Invalid("more than one batch"));
        check(&good[..good.len() - 1], Refusal::Corrupt("length of the batch is not that of its bytes"));
        let mut damaged = good;
        *damaged.last_mut().expect("a byte") ^= 1;
        check(&damaged, Refusal::Corrupt("checksum of the batch is wrong"));
    }

    #[test]
    fn sizes_are_bounded() {
        let large = vec![0; RECORD_BYTES_MAX + 1];
        check(&batch(None, &[&large]), Refusal::TooLarge("a record is larger than 8 MiB"));
        let whole = &large[..RECORD_BYTES_MAX];
        assert!(Foreign::read(&batch(None, &[whole])).is_ok());
        check(&batch(None, &[whole, whole]), Refusal::TooLarge("batch is larger than 12.25 MiB"));
        check(&batch(None, &vec![&b""[..]; 100_001]), Refusal::TooLarge("batch has more than 100000 records"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), magic in 0u8..4) {
            let mut bytes = bytes;
            if let Some(at) = bytes.get_mut(16) {
                *at = magic;
            }
            if bytes.len() > HEADER {
                let length = (bytes.len() - super::super::BEFORE_LENGTH) as i32;
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                bytes[21..23].fill(0);
                let bytes = with(bytes, 0, &[0; 8]);
                let _ = Foreign::read(&bytes);
            } else {
                let _ = Foreign::read(&bytes);
            }
        }
    }
}
