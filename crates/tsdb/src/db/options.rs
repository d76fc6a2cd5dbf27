//! How an engine keeps its data.

use super::{Background, Memory};
use crate::downsample::DownsampleRule;
use crate::retention::RetentionRule;

/// How an engine keeps its data.
#[derive(Debug, Clone)]
pub struct Options {
    /// Age at which samples expire, in milliseconds; `None` keeps everything.
    pub retention_ms: Option<i64>,
    /// Other ages for some series; of the rules that a series meets the first one counts.
    pub retention_rules: Vec<RetentionRule>,
    /// Size of all blocks, in bytes, beyond which the oldest ones are dropped; `None` for no bound.
    pub retention_bytes: Option<u64>,
    /// From which age on samples are left out of windows; of the rules that a series meets the first one counts.
    pub downsample: Vec<DownsampleRule>,
    /// Size of the head at which [`Db::should_flush`] says so, in bytes, what is known of its series included.
    pub head_bytes_max: usize,
    /// What memory the parts of the engine may hold.
    pub memory: Memory,
    /// Blocks are cut at multiples of this many milliseconds, so that they expire as a whole.
    pub block_span_ms: i64,
    /// Memory for pages of the blocks' indexes that were read, in bytes. Beside it each block has some 300 bytes for a thousand series.
    pub index_cache_bytes: usize,
    /// Exemplars that are kept, the newest; none where it is 0. Each takes some 200 bytes of memory and more, by the length of its labels.
    pub exemplars_max: usize,
    /// Where it is given, blocks are written on threads of their own that call it first, to stand back behind those who wait for an answer. What holds locks
    /// that these need is done by the caller's thread, so that none of them waits for one that stands back.
    pub stand_back: Option<fn(Background)>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            retention_ms: None,
            retention_rules: Vec::new(),
            retention_bytes: None,
            downsample: Vec::new(),
            head_bytes_max: 256 << 20,
            memory: Memory::default(),
            block_span_ms: 24 * 3_600_000,
            index_cache_bytes: 64 << 20,
            exemplars_max: 100_000,
            stand_back: None,
        }
    }
}
