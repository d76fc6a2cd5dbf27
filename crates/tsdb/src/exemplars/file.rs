//! The file of exemplars, which is written and read as a whole; docs/format-tsdb.md draws the bytes.

use std::collections::BTreeMap;

use model::{Exemplar, Labels};

use super::Entry;
use crate::Error;
use crate::chunk::bits::{Cursor, put_varint, unzigzag, zigzag};
use crate::disk::{Disk, io};

/// First bytes of the file.
const MAGIC: &[u8; 8] = b"weirexm1";
/// Bytes of the checksum at the end.
const CHECKSUM: usize = 4;

/// The exemplars of each series, ascending.
pub(crate) type BySeries = BTreeMap<Labels, Vec<Exemplar>>;

/// What the name of such a file ends in.
pub(crate) const SUFFIX: &str = ".exemplars";

/// The bytes of a file with these, which are ascending for each series.
pub(crate) fn encode<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut all: BTreeMap<&Labels, Vec<&Exemplar>> = BTreeMap::new();
    for entry in entries {
        all.entry(&entry.series).or_default().push(&entry.exemplar);
    }
    let mut out = MAGIC.to_vec();
    put_varint(&mut out, all.len() as u64);
    for (series, exemplars) in all {
        put_text(&mut out, series);
        put_varint(&mut out, exemplars.len() as u64);
        let mut last = 0i64;
        for exemplar in exemplars {
            put_varint(&mut out, zigzag(exemplar.t.wrapping_sub(last)));
            last = exemplar.t;
            out.extend_from_slice(&exemplar.v.to_le_bytes());
            put_text(&mut out, &exemplar.labels);
        }
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn put_text(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.canonical().len() as u64);
    out.extend_from_slice(labels.canonical().as_bytes());
}

/// Writes a file; its content is durable when this returns, its directory entry is not.
pub(crate) fn write(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let written = disk.create(name).and_then(|mut out| {
        out.write_all(bytes)?;
        out.sync()
    });
    written.map_err(io(format!("writing {}", disk.path(name).display())))
}

/// Reads a file. Its size comes with what is in it.
pub(crate) fn read(disk: &dyn Disk, name: &str) -> Result<(u64, BySeries), Error> {
    let path = disk.path(name).display().to_string();
    let bytes = disk.read(name).map_err(io(format!("reading {path}")))?;
    let all = decode(&bytes).map_err(|(position, reason)| Error::corrupt(&path, position, reason))?;
    Ok((bytes.len() as u64, all))
}

/// Reads the bytes of a file. The error says what is wrong at which of them.
fn decode(bytes: &[u8]) -> Result<BySeries, (usize, &'static str)> {
    let end = bytes.len().checked_sub(CHECKSUM).filter(|end| *end >= MAGIC.len());
    let end = end.ok_or((0, "too short for exemplars"))?;
    let (content, checksum) = bytes.split_at(end);
    if content[..MAGIC.len()] != *MAGIC {
        return Err((0, "the first bytes are not those of exemplars"));
    }
    if crc32c::crc32c(content).to_le_bytes() != checksum {
        return Err((end, "checksum of the exemplars is wrong"));
    }
    let mut cursor = Cursor { bytes: content, at: MAGIC.len() };
    let all = read_all(&mut cursor).map_err(|reason| (cursor.at, reason))?;
    if cursor.at == end { Ok(all) } else { Err((cursor.at, "there is more than the exemplars")) }
}

fn pairs<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<(&'a str, &'a str)>, &'static str> {
    let length = cursor.length()?;
    let text = std::str::from_utf8(cursor.take(length)?).map_err(|_| "labels are not UTF-8")?;
    Ok(model::LabelsRef::from_canonical(text).iter().collect())
}

fn read_all(cursor: &mut Cursor<'_>) -> Result<BySeries, &'static str> {
    let mut all = BySeries::new();
    for _ in 0..cursor.number()? {
        let series = Labels::new(&pairs(cursor)?).map_err(|_| "the labels of a series are invalid")?;
        let (mut exemplars, mut t) = (Vec::new(), 0i64);
        for _ in 0..cursor.number()? {
            t = t.wrapping_add(unzigzag(cursor.number()?));
            let v = f64::from_le_bytes(cursor.take(8)?.try_into().expect("eight bytes were taken"));
            exemplars.push(Exemplar::new(t, v, &pairs(cursor)?).map_err(|_| "the labels of an exemplar are invalid")?);
        }
        if exemplars.is_empty() || !exemplars.is_sorted_by(|a, b| a < b) {
            return Err("the exemplars of a series do not ascend");
        }
        if all.last_key_value().is_some_and(|(before, _)| *before >= series) {
            return Err("the series do not ascend");
        }
        all.insert(series, exemplars);
    }
    Ok(all)
}
