//! What series cost that come and go: two hours of simulated time, in each of which a million new series are written, as where every deployment of a cluster
//! rolls a few times. Fails where memory grows from the first half hour to the last by more than a tenth, the CPU time of an append by more than a half, or where
//! the index takes more than what it is of.
//!
//! `cargo bench -p tsdb --bench churn [-- SERIES]`: so many new series in an hour, a million by default. 100,000 are written at a time, a sample every 15 s;
//! what ends is never written again. A line a simulated five minutes: memory of the process, what the engine accounts for (of the head the most since the line before), CPU time of an append, and of a flush
//! with the merges after it; in the end the size of the blocks by parts. Flushes and merges run between appends, on the same thread.

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

#[path = "../tests/churning/mod.rs"]
mod churning;

use std::path::Path;
use std::process::ExitCode;

use churning::labels;
use model::{Cancel, Labels, Sample};
use tsdb::offline::inspect;
use tsdb::{Db, Options};

const ACTIVE: usize = 100_000;
const STEP_MS: i64 = 15_000;
const STEPS_OF_HOUR: i64 = 3_600_000 / STEP_MS;
const STEPS: i64 = 2 * STEPS_OF_HOUR;
/// Steps between lines.
const LINE: i64 = 20;
const START_MS: i64 = 20_700 * 86_400_000;
/// Lines of a quarter of the run.
const QUARTER: usize = (STEPS / LINE / 4) as usize;

/// Resident memory of this process.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// CPU time of this process up to now, in hundredths of a second: of other processes on the machine it says nothing.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The first field after the name is number 3; 14 and 15 are the times of the process and of the kernel for it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Whether the last quarter has no more than so many percent of what the first one had, in which the head was filled and written at least once.
fn is_flat(what: &str, first: u64, last: u64, percent: u64) -> bool {
    println!("{what}: {first} in the first half hour, {last} in the last");
    let is_flat = last * 100 <= first * percent;
    if !is_flat {
        println!("{what} grew by more than {} %", percent - 100);
    }
    is_flat
}

fn main() -> ExitCode {
    let new = std::env::args().skip(1).find_map(|arg| arg.parse::<usize>().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().expect("directory");
    let options = Options { head_bytes_max: 64 << 20, ..Options::default() };
    let db = Db::open(dir.path(), options).expect("opens");
    let mut active: Vec<Labels> = (0..ACTIVE).map(labels).collect();
    let (mut next, mut samples, mut appending, mut flushing) = (ACTIVE, 0u64, 0, 0);
    let (mut resident, mut appends) = (Vec::new(), Vec::new());
    let mut head = (0, 0);
    println!(
        "minute  series known  head MiB  index MiB  cache MiB  resident MiB  blocks  flushes  merges  ns an append  s a flush"
    );
    for step in 0..STEPS {
        let until = |step: i64| step as usize * new / STEPS_OF_HOUR as usize;
        let replaced = until(step + 1) - until(step);
        for _ in 0..replaced {
            active[next % ACTIVE] = labels(next);
            next += 1;
        }
        let began = cpu();
        for part in active.chunks(2000) {
            let mut batch = db.begin();
            for (at, labels) in part.iter().enumerate() {
                let v = 1e8 + ((step * 31 + at as i64 * 17) % 4096 * 4096) as f64;
                batch.append(labels.as_ref(), &[Sample { t: START_MS + step * STEP_MS, v }]);
            }
            batch.finish(0, step + 1);
        }
        appending += cpu() - began;
        samples += ACTIVE as u64;
        let stats = db.stats();
        head = (stats.head_series.max(head.0), stats.head_bytes.max(head.1));
        if db.should_flush() {
            let began = cpu();
            db.flush().expect("flushes");
            while db.compact(&Cancel::default()).expect("merges") {}
            flushing += cpu() - began;
        }
        if (step + 1) % LINE == 0 {
            let stats = db.stats();
            resident.push(resident_mib());
            appends.push(appending * 10_000_000 / samples);
            println!(
                "{:6}  {:12}  {:8}  {:9.1}  {:9}  {:12}  {:6}  {:7}  {:6}  {:12}  {:12.1}",
                (step + 1) * STEP_MS / 60_000,
                head.0,
                head.1 >> 20,
                stats.index_bytes as f64 / f64::from(1 << 20),
                stats.index_cache_bytes >> 20,
                resident[resident.len() - 1],
                stats.blocks,
                stats.flushes,
                stats.merges,
                appends[appends.len() - 1],
                flushing as f64 / 100.0,
            );
            (samples, appending, flushing, head) = (0, 0, 0, (0, 0));
        }
    }
    db.flush().expect("flushes");
    drop(db);
    verdict(dir.path(), &resident, &appends)
}

/// What is left on the disk, and whether memory and the time of an append stayed as they were.
fn verdict(dir: &Path, resident: &[u64], appends: &[u64]) -> ExitCode {
    let found = inspect::inspect(dir, 0).expect("inspects");
    let inspect::Report { series, samples, bytes, parts, .. } = found;
    println!("{series} series, {samples} samples, {bytes} bytes: {parts:?}");
    // What the allocator has kept of a merge at the moment of a line goes up and down by a tenth; the mean does not.
    let mean = |lines: &[u64]| lines.iter().sum::<u64>() / QUARTER as u64;
    let last = resident.len() - QUARTER;
    let memory = is_flat("MiB of memory", mean(&resident[..QUARTER]), mean(&resident[last..]), 110);
    let appending = is_flat("ns of CPU time an append", mean(&appends[..QUARTER]), mean(&appends[last..]), 150);
    let content = parts.times + parts.values + parts.frames;
    println!(
        "index: {} bytes a series; {} % of what it is of",
        parts.index / series.max(1),
        parts.index * 100 / content.max(1)
    );
    if memory && appending && parts.index <= content { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
