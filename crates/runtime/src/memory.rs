//! What memory the process may have, and the share of each of its parts.
//!
//! The limit is the smallest that the operating system sets for the process or a group that it is in, since at that one it is killed; else what the machine
//! has. Not all of it is shared out: [`RESERVE`] is for what nobody counts. A process shares it among the parts that it has, in the proportion of their
//! weights, so that the same table serves the all-in-one and each component alone.

use std::ffi::c_long;
use std::fs;
use std::path::{Path, PathBuf};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntGauge, Opts, Registry};

/// Part of the limit that is not shared out, in percent: code, stacks, connections, what is counted too late, and what the allocator keeps for those who freed it, which is
/// the largest of these. Measured under small limits (docs/storage.md), where it is 60 to 110 MiB together.
const RESERVE: u64 = 40;
/// It is at least so much: what a process takes that has no data.
const RESERVE_MIN: u64 = 64 << 20;
/// Below this nothing useful can be done; where less is said, this is what is shared out.
pub const LIMIT_MIN: u64 = 128 << 20;

/// Below this limit the allocator gives back soon what was freed. By itself it waits for a second, which under a limit of 256 MiB are some 60 MiB; the price
/// is a tenth of the processor time of queries.
const LEAN_BELOW: u64 = 1 << 30;
/// How soon, in milliseconds.
const PURGE_DELAY_MS: c_long = 10;
/// The number of that option in mimalloc's list, for which its binding has no name.
const PURGE_DELAY: i32 = 15;

/// How much memory the process may have.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Memory that the process may have, from which all its parts get their shares; what its cgroup allows without it, else what the machine has
    #[arg(long, env = "WEIR_MEMORY_LIMIT", value_name = "BYTES", value_parser = clap::value_parser!(u64).range(LIMIT_MIN..))]
    pub memory_limit: Option<u64>,
}

/// A part of a process that holds memory in proportion to its data or its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The newest samples, with those that are being written to blocks.
    Head,
    /// What writing blocks takes: of the head, and of those that are merged.
    Writing,
    /// The index of blocks.
    Index,
    /// Records of the log, on their way and newest.
    Log,
    /// Queries, or reads of others, and their answers.
    Queries,
    /// The windows of alert rules, and their evaluation.
    Alerting,
    /// Write requests that are not yet durable.
    Ingest,
    /// Pages of blocks in object storage, where there is one.
    Objects,
}

impl Part {
    /// Those of the all-in-one, in the order of the table; [`Part::Objects`] is there beside them where there is object storage.
    pub const ALL: [Part; 7] =
        [Part::Head, Part::Writing, Part::Index, Part::Log, Part::Queries, Part::Alerting, Part::Ingest];

    /// Its weight: of [`Part::ALL`] together they are hundredths.
    pub fn weight(self) -> u64 {
        match self {
            Part::Head => 20,
            // Half of the head is written at once. Where its series have few samples, the index of what is written takes nearly as much as it does, and some
            // such blocks have to fit together, or none is ever merged.
            Part::Writing => 28,
            Part::Index => 10,
            Part::Log => 8,
            Part::Queries => 20,
            Part::Alerting => 7,
            Part::Ingest => 7,
            // Of 1 GiB some 56 MiB: a page or two for each that reads, which is what there was without a share.
            Part::Objects => 10,
        }
    }

    /// As in the label `part`.
    pub fn name(self) -> &'static str {
        match self {
            Part::Head => "head",
            Part::Writing => "writing",
            Part::Index => "index",
            Part::Log => "log",
            Part::Queries => "queries",
            Part::Alerting => "alerting",
            Part::Ingest => "ingest",
            Part::Objects => "objects",
        }
    }
}

/// Where a limit is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--memory-limit`.
    Flag,
    /// A control group of the process; the file says it.
    Cgroup(PathBuf),
    /// The machine has no more.
    Machine,
    /// Nobody says.
    Unknown,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Flag => f.write_str("--memory-limit"),
            Source::Cgroup(file) => write!(f, "the cgroup of the process ({})", file.display()),
            Source::Machine => f.write_str("the memory of the machine"),
            Source::Unknown => f.write_str("nobody, so there is none"),
        }
    }
}

/// What a process may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// In bytes.
    pub bytes: u64,
    /// Who says so.
    pub source: Source,
}

impl Limit {
    /// What the flag says, else the system.
    pub fn of(args: &Args) -> Limit {
        match args.memory_limit {
            Some(bytes) => Limit { bytes, source: Source::Flag },
            None => Limit::of_system(Path::new("/")),
        }
    }

    /// What the files of the system below a root say.
    fn of_system(root: &Path) -> Limit {
        let machine = machine_bytes(root);
        let group = cgroup_files(root).into_iter().filter_map(|file| Some((number(&file)?, file))).min();
        // Without a limit the older kind of groups says a number that no machine has.
        match (group, machine) {
            (Some((bytes, file)), machine) if machine.is_none_or(|machine| bytes < machine) => {
                Limit { bytes, source: Source::Cgroup(file) }
            }
            (_, Some(bytes)) => Limit { bytes, source: Source::Machine },
            _ => Limit { bytes: u64::MAX, source: Source::Unknown },
        }
    }

    /// Tells the allocator where there is so little that it has to give back soon what was freed. For the start, while no other thread allocates much.
    pub fn tell_allocator(&self) {
        if self.bytes < LEAN_BELOW {
            set_purge_delay(PURGE_DELAY_MS);
        }
    }

    /// Says in the log and in a metric what was taken.
    pub fn tell(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        tracing::info!(bytes = self.bytes, "memory limit, set by {}", self.source);
        if self.bytes < LIMIT_MIN {
            tracing::warn!("with less than {LIMIT_MIN} bytes of memory the process may be killed for want of it");
        }
        let gauge = IntGauge::new("weir_memory_limit_bytes", "Memory that the process may have (--memory-limit).")?;
        gauge.set(i64::try_from(self.bytes).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))
    }

    /// Shares it out among the parts that a process has.
    pub fn shares(&self, parts: &[Part]) -> Shares {
        let bytes = self.bytes.max(LIMIT_MIN);
        let reserve = (bytes / 100 * RESERVE).max(RESERVE_MIN);
        let weights = parts.iter().map(|part| part.weight()).sum::<u64>().max(1);
        Shares { bytes: bytes - reserve, weights }
    }
}

/// Has the system give memory in pages of 4 KiB also where the allocator asks for larger ones. Of pages of 2 MiB the whole is cleared where a part is used: a million series
/// in the head took 40 MiB more and a restart with them a quarter more processor time, and no query is slower without (2026-11-27). For the start of a process.
pub fn take_small_pages() {
    // Where the system has no such pages, or none that can be declined, nothing is to be done.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[expect(
    unsafe_code,
    reason = "the options of the allocator have no safe binding; it takes any number for any of them"
)]
fn set_purge_delay(milliseconds: c_long) {
    // SAFETY: a plain number is stored, in the place of an option that there is.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) }
}

/// The shares of the parts of a process.
#[derive(Debug, Clone, Copy)]
pub struct Shares {
    bytes: u64,
    weights: u64,
}

impl Shares {
    /// What all parts have together, in bytes.
    pub fn all(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// What a part has, in bytes.
    pub fn of(&self, part: Part) -> usize {
        usize::try_from(u128::from(self.bytes) * u128::from(part.weight()) / u128::from(self.weights))
            .unwrap_or(usize::MAX)
    }
}

/// What a part of the process has to say of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Bytes that it may hold.
    pub bytes_max: usize,
    /// Bytes that it holds.
    pub held: usize,
    /// The most that it held.
    pub peak: usize,
    /// How often it needed more than there was.
    pub refused: u64,
}

/// Registers what a part may hold and holds, and how often it was refused more; it is asked when the registry is read.
pub fn register_part(
    registry: &Registry,
    part: Part,
    ask: impl Fn() -> Told + Send + Sync + 'static,
) -> Result<(), prometheus::Error> {
    let opts = |name: &str, help: &str| Opts::new(name, help).const_label("part", part.name());
    let bound = Gauge::with_opts(opts("weir_memory_share_bytes", "Memory that a part of the process may hold."))?;
    let held =
        Gauge::with_opts(opts("weir_memory_held_bytes", "Memory that a part of the process holds, as counted."))?;
    let peak = Gauge::with_opts(opts("weir_memory_peak_bytes", "The most that a part of the process held."))?;
    let help = "Times that a part of the process needed more memory than there was, and was refused it or had to wait.";
    let refused = IntCounter::with_opts(opts("weir_memory_refused_total", help))?;
    registry.register(Box::new(OfPart { bound, held, peak, refused, ask }))
}

/// Asks a part.
struct OfPart<F> {
    bound: Gauge,
    held: Gauge,
    peak: Gauge,
    refused: IntCounter,
    ask: F,
}

impl<F: Fn() -> Told + Send + Sync> Collector for OfPart<F> {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.bound, &self.held, &self.peak].into_iter().flat_map(|gauge| gauge.desc());
        gauges.chain(self.refused.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let told = (self.ask)();
        self.bound.set(told.bytes_max as f64);
        self.held.set(told.held as f64);
        self.peak.set(told.peak as f64);
        self.refused.inc_by(told.refused.saturating_sub(self.refused.get()));
        let gauges = [&self.bound, &self.held, &self.peak].into_iter().flat_map(|gauge| gauge.collect());
        gauges.chain(self.refused.collect()).collect()
    }
}

/// What the machine has.
fn machine_bytes(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn number(file: &Path) -> Option<u64> {
    // "max" is no number.
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The files that may say a limit of memory: of the process's own group and of those that it is in, of both kinds of groups.
fn cgroup_files(root: &Path) -> Vec<PathBuf> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (groups, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let unified = number == "0" && controllers.is_empty();
        if !unified && !controllers.split(',').any(|name| name == "memory") {
            continue;
        }
        let name = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        let Some((point, below)) = mounts.lines().find_map(|line| mount(line, unified, path)) else { continue };
        let top = root.join(point.trim_start_matches('/'));
        let own = top.join(below.trim_start_matches('/'));
        files.extend(own.ancestors().take_while(|dir| dir.starts_with(&top)).map(|dir| dir.join(name)));
    }
    files
}

/// Where a line of `mountinfo` mounts the groups of this kind, and the path of a group below that.
fn mount<'a>(line: &'a str, unified: bool, path: &'a str) -> Option<(&'a str, &'a str)> {
    let (mount, of) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (top, point) = (fields.next()?, fields.next()?);
    let mut of = of.split(' ');
    let (kind, options) = (of.next()?, of.nth(1)?);
    let fits = if unified { kind == "cgroup2" } else { kind == "cgroup" && options.split(',').any(|o| o == "memory") };
    if !fits {
        return None;
    }
    // In a container the mount may show a group and what is below it, and the path be told as from outside.
    Some((point, path.strip_prefix(top.trim_end_matches('/')).unwrap_or("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "the options of the allocator have no safe binding")]
    fn purge_delay() -> c_long {
        // SAFETY: a plain number is read.
        unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
    }

    #[test]
    fn the_allocator_is_told_to_give_back_soon_where_there_is_little() {
        // The one that it has by itself, by which the option is known.
        assert_eq!(purge_delay(), 1000);
        Limit { bytes: LEAN_BELOW, source: Source::Machine }.tell_allocator();
        assert_eq!(purge_delay(), 1000);
        Limit { bytes: LEAN_BELOW - 1, source: Source::Flag }.tell_allocator();
        assert_eq!(purge_delay(), PURGE_DELAY_MS);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn pages_of_the_process_are_small() {
        take_small_pages();
        assert_eq!(rustix::thread::transparent_huge_pages_are_disabled(), Ok(true));
    }

    /// A root directory with files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        dir
    }

    fn check(files: &[(&str, &str)], bytes: u64, file: Option<&str>) {
        let dir = root(&[&[("proc/meminfo", "MemTotal:       1000000 kB\nMemFree: 1 kB\n")], files].concat());
        let source = file.map_or(Source::Machine, |file| Source::Cgroup(dir.path().join(file)));
        assert_eq!(Limit::of_system(dir.path()), Limit { bytes, source });
    }

    const MOUNTS_1: &str = "25 1 0:1 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                            30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                            31 25 0:27 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory\n";
    const MOUNTS_2: &str = "29 23 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_smallest_limit_of_the_groups_of_a_process_counts() {
        let own = ("proc/self/cgroup", "5:memory:/pods/a\n4:cpu,cpuacct:/x\n0::/\n");
        let unlimited = "9223372036854771712\n";
        let mounts = ("proc/self/mountinfo", MOUNTS_1);
        let top = ("sys/fs/cgroup/memory/memory.limit_in_bytes", unlimited);
        let at = "sys/fs/cgroup/memory/pods/a/memory.limit_in_bytes";
        let above = "sys/fs/cgroup/memory/pods/memory.limit_in_bytes";
        check(&[own, mounts, top, (at, "400000\n"), (above, unlimited)], 400_000, Some(at));
        check(&[own, mounts, top, (at, "400000\n"), (above, "300000\n")], 300_000, Some(above));
        check(&[own, mounts, top, (at, unlimited), (above, unlimited)], 1_024_000_000, None);
        let own = ("proc/self/cgroup", "0::/system.slice/weir.service\n");
        let mounts = ("proc/self/mountinfo", MOUNTS_2);
        let at = "sys/fs/cgroup/system.slice/weir.service/memory.max";
        check(&[own, mounts, (at, "500000\n")], 500_000, Some(at));
        check(&[own, mounts, (at, "max\n")], 1_024_000_000, None);
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_mount() {
        let mounts = "31 25 0:27 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = [
            ("proc/self/cgroup", "5:memory:/docker/c1\n"),
            ("proc/self/mountinfo", mounts),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "7000000\n"),
        ];
        check(&files, 7_000_000, Some(files[2].0));
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", MOUNTS_2),
            ("sys/fs/cgroup/memory.max", "8000000\n"),
        ];
        check(&files, 8_000_000, Some(files[2].0));
    }

    #[test]
    fn where_no_group_says_anything_it_is_the_machine_and_the_flag_counts_first() {
        check(&[], 1_024_000_000, None);
        check(&[("proc/self/cgroup", "nonsense\n5:memory:/a\n"), ("proc/self/mountinfo", "x\n")], 1_024_000_000, None);
        let none = tempfile::tempdir().expect("directory");
        assert_eq!(Limit::of_system(none.path()), Limit { bytes: u64::MAX, source: Source::Unknown });
        let limit = Limit::of(&Args { memory_limit: Some(1 << 30) });
        assert_eq!(limit, Limit { bytes: 1 << 30, source: Source::Flag });
        assert!(Limit::of(&Args::default()).bytes > 0);
    }

    #[test]
    fn shares_are_what_is_left_of_the_reserve_and_a_component_alone_has_all_of_it() {
        assert_eq!(Part::ALL.iter().map(|part| part.weight()).sum::<u64>(), 100);
        let limit = Limit { bytes: 1 << 30, source: Source::Flag };
        let (all, alone) = (limit.shares(&Part::ALL), limit.shares(&[Part::Queries]));
        let shared_out = (1 << 30) - (1 << 30) / 100 * 40;
        assert_eq!((all.all(), alone.of(Part::Queries)), (shared_out, shared_out));
        assert_eq!(all.of(Part::Queries), shared_out / 5);
        let sum: usize = Part::ALL.iter().map(|part| all.of(*part)).sum();
        assert!(sum <= all.all() && sum + 7 >= all.all());
        let small = Limit { bytes: 1, source: Source::Flag }.shares(&Part::ALL);
        assert_eq!(small.all(), 64 << 20);
        let unknown = Limit { bytes: u64::MAX, source: Source::Unknown }.shares(&Part::ALL);
        assert!(unknown.of(Part::Queries) > 1 << 60);
    }

    #[test]
    fn parts_are_one_family_each() {
        let registry = Registry::new();
        for (part, held) in [(Part::Head, 3), (Part::Queries, 4)] {
            register_part(&registry, part, move || Told { bytes_max: 10, held, peak: 2 * held, refused: 1 })
                .expect("registered");
        }
        let told = registry.gather();
        let of = |name: &str| {
            let family = told.iter().find(|family| family.name() == name).expect("registered");
            let value = |m: &prometheus::proto::Metric| m.get_gauge().get_value() + m.get_counter().get_value();
            family.get_metric().iter().map(value).collect::<Vec<_>>()
        };
        assert_eq!(of("weir_memory_held_bytes"), [3.0, 4.0]);
        assert_eq!(of("weir_memory_peak_bytes"), [6.0, 8.0]);
        assert_eq!(of("weir_memory_share_bytes"), [10.0, 10.0]);
        assert_eq!(of("weir_memory_refused_total"), [1.0, 1.0]);
        let again = register_part(&registry, Part::Head, || Told { bytes_max: 1, held: 1, peak: 1, refused: 1 });
        again.expect_err("it is there already");
    }
}
