//! The shares of storage in the memory of its process.

use model::Budget;
use prometheus::Registry;
use runtime::memory::{Part, Shares, Told, register_part};

use crate::Args;

/// What memory the parts of storage may hold; without bounds unless the program that starts it gives some.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// What the engine holds.
    pub engine: tsdb::Memory,
    /// Records of the log that were read and are not in the head yet.
    pub log: Budget,
    /// What is read for others, where it is served to them.
    pub reads: Budget,
    /// Pages of blocks in object storage, and the requests for them.
    pub objects: Budget,
}

/// The parts of a process among which its memory is shared: these, and pages of object storage where there is one.
pub fn parts(own: &[Part], args: &Args) -> Vec<Part> {
    let objects = args.objects.storage_objects.is_some().then_some(Part::Objects);
    own.iter().copied().chain(objects).collect()
}

/// Fetches of the log are a share of the memory for it, one of so many for each partition: the log keeps its newest records in as much, and alerting
/// reads as well.
const FETCH_SHARE: usize = 8;
/// They are at least so large, or reading a long log is mostly asking.
const FETCH_MIN: usize = 128 << 10;
/// More would not make reading faster.
const FETCH_MAX: usize = 4 << 20;

impl Memory {
    /// The shares of a process.
    pub fn of(whole: &Budget, shares: &Shares) -> Memory {
        Memory {
            engine: tsdb::Memory {
                head: whole.part("the newest samples", shares.of(Part::Head)),
                writing: whole.part("writing blocks", shares.of(Part::Writing)),
                index: whole.part("the index of blocks", shares.of(Part::Index)),
            },
            log: whole.part("records of the log", shares.of(Part::Log)),
            reads: whole.part("reads", shares.of(Part::Queries)),
            objects: whole.part("pages of object storage", shares.of(Part::Objects)),
        }
    }

    /// How large the head may grow until it is written: half of its share, the other half being written meanwhile.
    pub(crate) fn head_bytes_max(&self, at_most: usize) -> usize {
        (self.engine.head.bytes_max() / 2).min(at_most)
    }

    /// Payload that is fetched at once, of one of so many partitions.
    pub(crate) fn fetch_bytes(&self, partitions: usize) -> usize {
        (self.log.bytes_max() / FETCH_SHARE / partitions.max(1)).clamp(FETCH_MIN, FETCH_MAX)
    }

    /// Registers what each part holds, `waited` being how often reading the log waited for the head. What is read for others is told by who serves it,
    /// and the records of the log by the log where it is in the same process.
    pub(crate) fn register(
        &self,
        registry: &Registry,
        waited: prometheus::IntCounter,
    ) -> Result<(), prometheus::Error> {
        register(registry, Part::Head, &self.engine.head, move || waited.get())?;
        let writing = self.engine.writing.clone();
        register(registry, Part::Writing, &self.engine.writing, move || writing.refused())?;
        register(registry, Part::Index, &self.engine.index, || 0)?;
        register(registry, Part::Log, &self.log, || 0)
    }
}

/// Registers a part with its budget.
pub(crate) fn register(
    registry: &Registry,
    part: Part,
    budget: &Budget,
    refused: impl Fn() -> u64 + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let budget = budget.clone();
    register_part(registry, part, move || Told {
        bytes_max: budget.bytes_max(),
        held: budget.held(),
        peak: budget.peak(),
        refused: refused(),
    })
}

#[cfg(test)]
mod tests {
    use runtime::memory::{Limit, Source};

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        storage: Args,
    }

    #[test]
    fn pages_of_object_storage_have_a_share_where_there_is_one() {
        let parts = |flags: &[&str]| {
            let flags = [&["storage"], flags].concat();
            parts(&Part::ALL, &<Command as clap::Parser>::try_parse_from(flags).expect("flags").storage)
        };
        assert_eq!(parts(&[]), Part::ALL);
        let with = parts(&["--storage-objects", "s3://bucket/prefix"]);
        assert_eq!(with, [&Part::ALL[..], &[Part::Objects]].concat());
        let shares = Limit { bytes: 1 << 30, source: Source::Flag }.shares(&with);
        let sum: usize = with.iter().map(|part| shares.of(*part)).sum();
        assert!(sum <= shares.all(), "all fit together");
        let memory = Memory::of(&Budget::new("all", shares.all()), &shares);
        assert_eq!(memory.objects.bytes_max(), shares.all() / 11);
    }

    #[test]
    fn fetches_and_the_head_follow_the_share_within_what_is_of_use() {
        let of = |mib: u64| {
            let shares = Limit { bytes: mib << 20, source: Source::Flag }.shares(&Part::ALL);
            (Memory::of(&Budget::new("all", shares.all()), &shares), shares)
        };
        let ((small, shares), (large, _)) = (of(384), of(64 << 10));
        assert_eq!(small.head_bytes_max(512 << 20), shares.of(Part::Head) / 2);
        assert_eq!(large.head_bytes_max(512 << 20), 512 << 20);
        assert_eq!(small.fetch_bytes(4), shares.of(Part::Log) / 32);
        assert_eq!((small.fetch_bytes(1000), large.fetch_bytes(4)), (FETCH_MIN, FETCH_MAX));
        assert_eq!(Memory::default().fetch_bytes(4), FETCH_MAX);
    }
}
