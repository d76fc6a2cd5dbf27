//! `weir tsdb import-prometheus` and `export-prometheus`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use model::{Cancel, TimeRange};
use tsdb::prometheus::chunks::StartTimes;
use tsdb::prometheus::export;
use tsdb::prometheus::import::{self, Summary};
use tsdb::{Db, Options};

use super::progress::Bar;
use super::{problems, storage_in, time};
use crate::cli::{ExportArgs, ImportArgs};
use crate::output::out;

/// Reads the blocks of a Prometheus, and says what became of them.
pub(super) fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    // Looked at before the storage is made: a wrong path leaves nothing behind.
    std::fs::read_dir(&args.from).with_context(|| format!("reading {}", args.from.display()))?;
    let options = Options { block_span_ms: args.span.storage_block_span.as_millis() as i64, ..Options::default() };
    let db = Db::open(&storage_in(&args.data.data), options)?;
    let mut bar = Bar::new();
    let summary = import::import(&args.from, &db, &Cancel::default(), &mut |p| {
        bar.show(p.bytes, p.bytes_all, &format!("{} of {} blocks, {} samples", p.blocks, p.blocks_all, p.samples));
    });
    bar.end();
    let summary = summary?;
    told(args, &summary)?;
    problems(&summary.problems, summary.problems_further)
}

fn told(args: &ImportArgs, summary: &Summary) -> anyhow::Result<()> {
    let mut out = out();
    let Summary { blocks, samples, new, deleted, .. } = summary;
    writeln!(
        out,
        "{blocks} blocks: {samples} samples, of which {} were there already and {new} are new",
        samples - new
    )?;
    if let Some(range) = summary.range {
        writeln!(out, "from {} to {}", time(range.start_ms), time(range.end_ms))?;
    }
    if *deleted > 0 {
        writeln!(out, "{deleted} samples are deleted there, and left out")?;
    }
    for name in &summary.replaced {
        writeln!(out, "block {name} was passed over: another one has replaced it")?;
    }
    for (kind, skipped) in &summary.skipped {
        let names: Vec<&str> = skipped.metrics.iter().map(String::as_str).collect();
        let (chunks, samples) = (skipped.chunks, skipped.samples);
        writeln!(
            out,
            "skipped {chunks} chunks with {samples} samples that are stored as {kind}: {}",
            names.join(", ")
        )?;
    }
    if summary.has_wal {
        writeln!(
            out,
            "{} has a write-ahead log, which was not read: a snapshot of the Prometheus has what is in it as a block",
            args.from.display()
        )?;
    }
    Ok(())
}

/// Writes blocks for a Prometheus, and says which.
pub(super) fn export(dir: &Path, args: &ExportArgs) -> anyhow::Result<ExitCode> {
    let now_ms = runtime::clock::now_ms();
    let at = |text: &Option<String>, otherwise| text.as_deref().map_or(Ok(otherwise), |text| time_ms(text, now_ms));
    let range = TimeRange { start_ms: at(&args.start, i64::MIN)?, end_ms: at(&args.end, i64::MAX)? };
    if range.start_ms > range.end_ms {
        bail!("--start is after --end");
    }
    let matcher_sets = args.matches.iter().map(|text| {
        promql::parse_selector(text, &promql::Features::of_flags())
            .map_err(|error| anyhow!("--match {text:?}: {error}"))
    });
    let options = export::Options {
        range,
        matcher_sets: matcher_sets.collect::<Result<_, _>>()?,
        start_times: if args.no_start_times { StartTimes::LeftOut } else { StartTimes::Written },
        span_ms: args.block_span.as_millis() as i64,
        now_ms,
        chance: u64::from(std::process::id()) << 32 | (now_ms as u64 & u64::from(u32::MAX)),
    };
    let mut written = Ok(());
    let summary = export::export(dir, &args.out, &options, &Cancel::default(), &mut |block| {
        let (from, to) = (time(block.range.start_ms), time(block.range.end_ms));
        if written.is_ok() {
            written =
                writeln!(out(), "{}: {from} to {to}, {} series, {} samples", block.name, block.series, block.samples);
        }
    })?;
    written?;
    let samples: u64 = summary.blocks.iter().map(|block| block.samples).sum();
    writeln!(out(), "{} blocks, {samples} samples", summary.blocks.len())?;
    problems(&summary.problems, 0)
}

/// A time as the flags have it.
fn time_ms(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let ago = text.strip_prefix('-').filter(|ago| ago.parse::<f64>().is_err());
    match ago {
        _ if text == "now" => Ok(now_ms),
        Some(ago) => Ok(now_ms - model::time::parse_duration_ms(ago).with_context(|| format!("the time {text:?}"))?),
        None => model::timestamp::parse_ms(text).map_err(anyhow::Error::msg),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_they_are_elsewhere_on_the_command_line() {
        for (text, ms) in [
            ("now", 1_790_000_000_250),
            ("-1h30m", 1_789_994_600_250),
            ("1790000000.5", 1_790_000_000_500),
            ("-5.5", -5500),
            ("2026-09-21T14:13:20Z", 1_790_000_000_000),
        ] {
            assert_eq!(time_ms(text, 1_790_000_000_250).expect("a time"), ms, "{text}");
        }
        assert!(time_ms("-1fortnight", 0).is_err() && time_ms("yesterday", 0).is_err());
    }
}
