//! `meta.json`: what a block says of itself.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::disk::io;

/// The file's name in the folder of a block.
pub(super) const FILE: &str = "meta.json";

/// What a block says of itself. What is not used here is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) ulid: String,
    /// First time, in Unix milliseconds.
    #[serde(rename = "minTime")]
    pub(super) min_time: i64,
    /// The time after the last one.
    #[serde(rename = "maxTime")]
    pub(super) max_time: i64,
    #[serde(default)]
    pub(super) stats: Stats,
    #[serde(default)]
    pub(super) compaction: Compaction,
    pub(super) version: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stats {
    #[serde(rename = "numSamples", default)]
    pub(super) samples: u64,
    #[serde(rename = "numFloatSamples", default)]
    pub(super) float_samples: u64,
    #[serde(rename = "numHistogramSamples", default)]
    pub(super) histogram_samples: u64,
    #[serde(rename = "numSeries", default)]
    pub(super) series: u64,
    #[serde(rename = "numChunks", default)]
    pub(super) chunks: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Compaction {
    /// How often it was compacted; 1 for one that never was.
    #[serde(default)]
    pub(super) level: u32,
    /// The blocks of level 1 that are in it.
    #[serde(default)]
    pub(super) sources: Vec<String>,
    /// The blocks that it replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) parents: Vec<Parent>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parent {
    pub(super) ulid: String,
}

impl Meta {
    /// Reads the file of a block's folder.
    pub(super) fn read(block: &Path) -> Result<Meta, Error> {
        let path = block.join(FILE);
        let name = path.display().to_string();
        let text = std::fs::read(&path).map_err(io(format!("reading {name}")))?;
        let meta: Meta = serde_json::from_slice(&text).map_err(|e| Error::corrupt(&name, 0, &e.to_string()))?;
        if meta.version != 1 {
            return Err(Error::Invalid(format!("{name}: blocks of version {} are not known", meta.version)));
        }
        Ok(meta)
    }

    pub(super) fn print(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("numbers and texts are JSON");
        text.push(b'\n');
        text
    }
}
