//! Kafka's record batch, version 2, as it travels and as it lies on disk.
//!
//! Written as the protocol's documentation describes it: a header of 61 bytes in big endian, then the records, whose numbers
//! are zigzag varints. No compression (payloads compress themselves), no headers on records; batches of other writers may have
//! headers and keys, which are skipped. Not here: control batches and transactions; what is asked of a batch that another
//! writer made is in [`foreign`].

pub(crate) mod foreign;

use bytes::Bytes;

use crate::Record;

/// Bytes before the first record.
pub(crate) const HEADER: usize = 61;
/// Bytes before those that the length field counts.
const BEFORE_LENGTH: usize = 12;
/// Bytes before those that the checksum covers.
const BEFORE_CHECKED: usize = 21;

/// Bytes of the shortest record: its length, attributes, time, offset, no key, no value, no headers.
const RECORD_MIN: usize = 7;

/// Who wrote a batch, and which of its batches it is; how the log knows one that is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// Number of its first record among those of the producer in this partition; after `i32::MAX` comes 0.
    pub(crate) sequence: i32,
}

/// What the header of a batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: i64,
    pub(crate) records: i64,
    pub(crate) max_timestamp: i64,
    /// Size of the whole batch.
    pub(crate) bytes: usize,
    /// `None` where the writer does not number its batches.
    pub(crate) producer: Option<Producer>,
}

impl Header {
    pub(crate) fn next_offset(&self) -> i64 {
        self.base_offset + self.records
    }
}

/// Appends one batch of records, given as time of append and payload, to `out`.
pub(crate) fn write(out: &mut Vec<u8>, base_offset: i64, producer: Option<Producer>, records: &[(i64, Bytes)]) {
    let producer = producer.unwrap_or(Producer { id: -1, epoch: -1, sequence: -1 });
    let start = out.len();
    let count = records.len() as i32;
    let base_time = records.first().map_or(0, |(t, _)| *t);
    let max_time = records.iter().map(|(t, _)| *t).max().unwrap_or(0);
    out.extend_from_slice(&base_offset.to_be_bytes());
    out.extend_from_slice(&[0; 4]); // length, below
    out.extend_from_slice(&(-1i32).to_be_bytes()); // leader epoch: none
    out.push(2); // magic
    out.extend_from_slice(&[0; 4]); // checksum, below
    out.extend_from_slice(&0i16.to_be_bytes()); // attributes: not compressed, time of creation
    out.extend_from_slice(&(count - 1).to_be_bytes());
    out.extend_from_slice(&base_time.to_be_bytes());
    out.extend_from_slice(&max_time.to_be_bytes());
    out.extend_from_slice(&producer.id.to_be_bytes());
    out.extend_from_slice(&producer.epoch.to_be_bytes());
    out.extend_from_slice(&producer.sequence.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    for (delta, (time, payload)) in records.iter().enumerate() {
        let (time, offset) = (time - base_time, delta as i64);
        // Attributes, key (none: -1) and number of headers take a byte each.
        let length = 3 + varint_len(time) + varint_len(offset) + varint_len(payload.len() as i64) + payload.len();
        put_varint(out, length as i64);
        out.push(0);
        put_varint(out, time);
        put_varint(out, offset);
        put_varint(out, -1);
        put_varint(out, payload.len() as i64);
        out.extend_from_slice(payload);
        put_varint(out, 0);
    }
    let length = (out.len() - start - BEFORE_LENGTH) as i32;
    out[start + 8..start + 12].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(&out[start + BEFORE_CHECKED..]);
    out[start + 17..start + 21].copy_from_slice(&checksum.to_be_bytes());
}

/// Gives a batch its place in the log: the two fields that the log and not the writer decides, which the checksum leaves out.
pub(crate) fn place(batch: &mut [u8], base_offset: i64) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&(-1i32).to_be_bytes()); // leader epoch: none
}

/// Reads the header at the start of `bytes` and checks everything that can be checked without the records.
pub(crate) fn header(bytes: &[u8]) -> Result<Header, &'static str> {
    let header = bytes.get(..HEADER).ok_or("batch header ends too early")?;
    let i64_at = |at: usize| i64::from_be_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let i32_at = |at: usize| i32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if header[16] != 2 {
        return Err("not a record batch of version 2");
    }
    let size = usize::try_from(i32_at(8)).ok().map(|n| n + BEFORE_LENGTH).filter(|n| *n >= HEADER);
    let (last_delta, count) = (i32_at(23), i32_at(57));
    if count < 1 || last_delta != count - 1 || i64_at(0) < 0 {
        return Err("batch header does not make sense");
    }
    let bytes = size.ok_or("length of the batch does not make sense")?;
    // Checked before anything is allocated for so many.
    if count as usize > (bytes - HEADER) / RECORD_MIN {
        return Err("batch is too short for its number of records");
    }
    let epoch = i16::from_be_bytes([header[51], header[52]]);
    let producer = Producer { id: i64_at(43), epoch, sequence: i32_at(53) };
    Ok(Header {
        base_offset: i64_at(0),
        records: i64::from(count),
        max_timestamp: i64_at(35),
        bytes,
        producer: (producer.id >= 0).then_some(producer),
    })
}

/// Reads the header of a whole batch and checks its checksum.
pub(crate) fn check(bytes: &[u8]) -> Result<Header, &'static str> {
    let header = header(bytes)?;
    let batch = bytes.get(..header.bytes).ok_or("batch ends too early")?;
    let stored = u32::from_be_bytes(batch[17..21].try_into().expect("four bytes"));
    if crc32c::crc32c(&batch[BEFORE_CHECKED..]) != stored {
        return Err("checksum of the batch is wrong");
    }
    Ok(header)
}

/// Checks a batch and reads its records; their payloads are slices of it. A record without a value has an empty payload.
pub(crate) fn records(batch: &Bytes) -> Result<Vec<Record>, &'static str> {
    let header = check(batch)?;
    let base_time = i64::from_be_bytes(batch[27..35].try_into().expect("eight bytes"));
    if u16::from_be_bytes([batch[21], batch[22]]) & 0b10_0111 != 0 {
        return Err("compressed or control batch");
    }
    let mut at = HEADER;
    let mut out = Vec::with_capacity(header.records as usize);
    for delta in 0..header.records {
        let length = varint(batch, &mut at)?;
        let end = usize::try_from(length).ok().and_then(|n| at.checked_add(n)).filter(|end| *end <= header.bytes);
        let end = end.ok_or("record ends too late")?;
        at += 1; // attributes
        let time = varint(batch, &mut at)?;
        if varint(batch, &mut at)? != delta {
            return Err("record offsets are not dense");
        }
        skip(batch, &mut at)?; // key
        let size = usize::try_from(varint(batch, &mut at)?.max(0)).map_err(|_| "length does not make sense")?;
        let value_end = at.checked_add(size).filter(|value_end| *value_end <= end).ok_or("value ends too late")?;
        out.push(Record {
            offset: header.base_offset + delta,
            timestamp_ms: base_time.wrapping_add(time),
            payload: batch.slice(at..value_end),
        });
        at = end; // headers
    }
    Ok(out)
}

fn skip(bytes: &[u8], at: &mut usize) -> Result<(), &'static str> {
    let n = varint(bytes, at)?;
    let n = usize::try_from(n.max(0)).map_err(|_| "length does not make sense")?;
    *at = at.checked_add(n).ok_or("length does not make sense")?;
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, n: i64) {
    let mut n = ((n << 1) ^ (n >> 63)) as u64;
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn varint_len(n: i64) -> usize {
    let n = ((n << 1) ^ (n >> 63)) as u64;
    (70 - (n | 1).leading_zeros() as usize) / 7
}

fn varint(bytes: &[u8], at: &mut usize) -> Result<i64, &'static str> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or("record ends too early")?;
        *at += 1;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((n >> 1) as i64 ^ -((n & 1) as i64));
        }
    }
    Err("number is too long")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(records: &[(i64, Bytes)]) -> Bytes {
        let mut out = Vec::new();
        write(&mut out, 7, None, records);
        Bytes::from(out)
    }

    #[test]
    fn batch_is_golden() {
        // The bytes that Kafka's protocol documentation asks for, field by field.
        let bytes = batch(&[(1000, Bytes::from_static(b"ab")), (1003, Bytes::new())]);
        let fields = [
            "0000000000000007", // base offset
            "00000041",         // length of what follows
            "ffffffff",         // partition leader epoch
            "02",               // magic
            "0a7abcd5",         // CRC-32C of what follows
            "0000",             // attributes
            "00000001",         // last offset delta
            "00000000000003e8", // base timestamp
            "00000000000003eb", // max timestamp
            "ffffffffffffffff", // producer id
            "ffff",             // producer epoch
            "ffffffff",         // base sequence
            "00000002",         // records
            "100000000104616200",
            "0c000602010000",
        ];
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, fields.concat());
    }

    #[test]
    fn another_implementation_reads_the_batch() {
        use kafka_protocol::records::{Compression, RecordBatchDecoder, TimestampType};
        let mut bytes = batch(&[(1000, Bytes::from_static(b"ab")), (990, Bytes::from(vec![5; 300]))]);
        let read = RecordBatchDecoder::decode(&mut bytes).expect("reads");
        assert_eq!((read.version, read.compression), (2, Compression::None));
        let records = read.records.into_iter();
        let seen: Vec<_> = records
            .map(|r| (r.offset, r.timestamp, r.timestamp_type, r.producer_id, r.key, r.value, r.headers.len()))
            .collect();
        let expect = |offset, time, value: &[u8]| {
            let value = Some(Bytes::copy_from_slice(value));
            (offset, time, TimestampType::Creation, -1, None, value, 0)
        };
        assert_eq!(seen, [expect(7, 1000, b"ab"), expect(8, 990, &[5; 300])]);
    }

    #[test]
    fn batches_of_another_implementation_are_read() {
        use kafka_protocol::indexmap::IndexMap;
        use kafka_protocol::records::{
            Compression, Record as Theirs, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
        };
        let record = |offset: i64, headers: IndexMap<_, _>| Theirs {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 3,
            producer_id: 9,
            producer_epoch: 1,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: offset as i32,
            timestamp: 1000 + offset,
            key: Some(Bytes::from_static(b"key")),
            value: Some(Bytes::from(vec![offset as u8; 200])),
            headers,
        };
        let header = [("h".to_string().into(), Some(Bytes::from_static(b"v")))].into_iter().collect();
        let given = [record(0, IndexMap::new()), record(1, header)];
        let mut bytes = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut bytes, &given, &options).expect("writes");
        let seen: Vec<_> = records(&bytes.freeze())
            .expect("reads")
            .into_iter()
            .map(|r| (r.offset, r.timestamp_ms, r.payload))
            .collect();
        assert_eq!(seen, [(0, 1000, Bytes::from(vec![0; 200])), (1, 1001, Bytes::from(vec![1; 200]))]);
    }

    #[test]
    fn damage_is_seen() {
        let good = batch(&[(1, Bytes::from_static(b"payload"))]);
        assert_eq!(check(&good).map(|h| (h.base_offset, h.next_offset(), h.bytes)), Ok((7, 8, good.len())));
        for at in 16..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            assert!(check(&bad).is_err(), "byte {at}");
        }
        assert_eq!(check(&good[..good.len() - 1]), Err("batch ends too early"));
        assert_eq!(check(&[]), Err("batch header ends too early"));
    }

    proptest! {
        #[test]
        fn records_read_back(given in prop::collection::vec((any::<i32>(), prop::collection::vec(any::<u8>(), 0..300)), 1..20)) {
            let given: Vec<(i64, Bytes)> = given.into_iter().map(|(t, p)| (i64::from(t), Bytes::from(p))).collect();
            let read = records(&batch(&given)).expect("reads back");
            let expect: Vec<Record> = given.iter().enumerate()
                .map(|(i, (t, p))| Record { offset: 7 + i as i64, timestamp_ms: *t, payload: p.clone() }).collect();
            prop_assert_eq!(read, expect);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = bytes;
            let _ = records(&Bytes::from(bytes.clone()));
            if bytes.len() >= HEADER + 2 * RECORD_MIN {
                // With a right checksum the records themselves are reached.
                bytes[16] = 2;
                bytes[21] = 0;
                bytes[22] = 0;
                bytes[..8].fill(0);
                bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
                bytes[57..61].copy_from_slice(&2i32.to_be_bytes());
                let length = (bytes.len() - BEFORE_LENGTH) as i32;
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                let checksum = crc32c::crc32c(&bytes[BEFORE_CHECKED..]);
                bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
                prop_assert!(check(&bytes).is_ok());
                let _ = records(&Bytes::from(bytes));
            }
        }
    }
}
