//! `weir tsdb verify`, `inspect` and `repair`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use tsdb::offline::inspect::{self, Report};
use tsdb::offline::repair::{self, Lost};
use tsdb::offline::{Faults, verify};

use super::{problems, time, write_json};
use crate::cli::{InspectArgs, RepairArgs};
use crate::output::{Table, out};

/// Lost parts of a block that are shown one by one.
const LOST_SHOWN_MAX: usize = 100;

/// Names each fault, and a line for each block.
pub(super) fn verify(dir: &Path) -> anyhow::Result<ExitCode> {
    let mut written = Ok(());
    let report = verify::verify(dir, &mut |block| {
        let state = if block.faults.is_empty() { "sound".to_owned() } else { faults(block.faults.count()) };
        let line = format!(
            "{}: {} series, {} chunks, {} samples, {}: {state}",
            block.name,
            block.series,
            block.chunks,
            block.samples,
            size(block.bytes)
        );
        if written.is_ok() {
            written = writeln!(out(), "{line}");
        }
    })?;
    written?;
    if let Some(one) = &report.exemplars {
        let state = if one.faults.is_empty() { "sound".to_owned() } else { faults(one.faults.count()) };
        let (name, bytes) = (&one.name, size(one.bytes));
        writeln!(out(), "{name}: {} exemplars of {} series, {bytes}: {state}", one.exemplars, one.series)?;
    }
    let of_blocks = report.blocks.iter().map(|block| &block.faults);
    let all = of_blocks.chain(report.exemplars.iter().map(|one| &one.faults));
    let all = std::iter::once(&report.manifest).chain(all);
    let listed: Vec<String> = all.clone().flat_map(listed).collect();
    for name in &report.orphans {
        writeln!(out(), "{name}: not in the manifest; Weir removes it when it starts")?;
    }
    if report.deletions > 0 {
        writeln!(out(), "{} deletions: what is deleted is still in blocks, and in no answer", report.deletions)?;
    }
    let count = report.faults();
    writeln!(
        out(),
        "{} blocks, {}",
        report.blocks.len(),
        if count == 0 { "all sound".to_owned() } else { faults(count) }
    )?;
    problems(&listed, all.map(|faults| faults.further).sum())
}

fn faults(count: u64) -> String {
    if count == 1 { "1 fault".to_owned() } else { format!("{count} faults") }
}

fn listed(faults: &Faults) -> impl Iterator<Item = String> {
    faults.listed.iter().map(ToString::to_string)
}

/// Tables of what is there.
pub(super) fn inspect(dir: &Path, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let report = inspect::inspect(dir, args.top)?;
    if args.json {
        write_json(&serde_json::to_value(&report)?)?;
    } else {
        tables(&report)?;
    }
    problems(&report.damaged, 0)
}

fn tables(report: &Report) -> anyhow::Result<()> {
    let mut out = out();
    let each = report.bytes as f64 / report.samples.max(1) as f64;
    writeln!(
        out,
        "{} blocks, {} distinct series, {} samples, {}, {each:.2} bytes a sample\n",
        report.blocks.len(),
        report.series,
        report.samples,
        size(report.bytes)
    )?;
    let mut blocks = Table::new(["BLOCK", "FROM", "TO", "SERIES", "SAMPLES", "CHUNKS", "BYTES", "INDEX BYTES"]);
    for block in &report.blocks {
        let figures = [block.series, block.samples, block.chunks, block.bytes, block.index_bytes];
        let mut row = vec![block.name.clone(), time(block.start_ms), time(block.end_ms)];
        row.extend(figures.map(|n| n.to_string()));
        blocks.push(row);
    }
    blocks.write_aligned(&mut out)?;
    if report.exemplars > 0 {
        let (of, bytes) = (report.exemplar_series, size(report.exemplar_bytes));
        writeln!(out, "\n{} exemplars of {of} series, {bytes}", report.exemplars)?;
    }
    deletions(report, &mut out)?;
    let parts = report.parts;
    let mut table = Table::new(["PART", "BYTES", "BYTES A SAMPLE"]);
    for (name, bytes) in
        [("times", parts.times), ("values", parts.values), ("index", parts.index), ("frames", parts.frames)]
    {
        let each = bytes as f64 / report.samples.max(1) as f64;
        table.push(vec![name.to_owned(), bytes.to_string(), format!("{each:.3}")]);
    }
    writeln!(out)?;
    table.write_aligned(&mut out)?;
    let mut table = Table::new(["ENCODING", "CHUNKS", "SAMPLES", "BYTES", "BYTES A SAMPLE"]);
    for (name, encoding) in &report.encodings {
        let each = encoding.bytes as f64 / encoding.samples.max(1) as f64;
        let mut row = vec![(*name).to_owned()];
        row.extend([encoding.chunks, encoding.samples, encoding.bytes].map(|n| n.to_string()));
        row.push(format!("{each:.3}"));
        table.push(row);
    }
    writeln!(out)?;
    table.write_aligned(&mut out)?;
    let mut table = Table::new(["METRIC", "SERIES", "CHUNK BYTES"]);
    for metric in &report.metrics {
        table.push(vec![metric.name.clone(), metric.series.to_string(), metric.bytes.to_string()]);
    }
    writeln!(out, "\n{} metric names, those with most series:", report.metric_names)?;
    table.write_aligned(&mut out)?;
    let mut table = Table::new(["LABEL", "VALUES", "INDEX BYTES"]);
    for label in &report.labels {
        table.push(vec![label.name.clone(), label.values.to_string(), label.index_bytes.to_string()]);
    }
    writeln!(out, "\n{} label names, those with most values:", report.label_names)?;
    table.write_aligned(&mut out)?;
    Ok(())
}

/// What is deleted and not yet gone, if anything is.
fn deletions(report: &Report, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    if report.deletions.is_empty() {
        return Ok(());
    }
    let bound = |ms: i64| if ms == i64::MIN || ms == i64::MAX { "-".to_owned() } else { time(ms) };
    let mut table = Table::new(["DELETED", "FROM", "TO"]);
    for one in &report.deletions {
        table.push(vec![one.selector.clone(), bound(one.start_ms), bound(one.end_ms)]);
    }
    writeln!(
        out,
        "\n{} of the samples are deleted, and go when their blocks are written anew:",
        report.deleted_samples
    )?;
    table.write_aligned(out)?;
    Ok(())
}

/// Names what was repaired and what was lost.
pub(super) fn repair(dir: &Path, args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let mut written = Ok(());
    let report = repair::repair(dir, args.span.storage_block_span.as_millis() as i64, &mut |one| {
        let to = match &one.new {
            Some(new) => format!("{} samples are now in {new}", one.samples),
            None => "nothing of it can be read".to_owned(),
        };
        let kept = one.kept_as.as_ref().map_or(String::new(), |kept| format!("; the original is {kept}"));
        if written.is_ok() {
            written = writeln!(out(), "{}: {}; {to}{kept}", one.name, faults(one.faults.count()));
        }
    })?;
    written?;
    let mut lines: Vec<String> = Vec::new();
    if let Some(reason) = &report.manifest {
        writeln!(out(), "manifest: {reason}; it was made anew of the blocks and exemplars that are here")?;
        lines.push(
            "manifest: lost positions in the log, which is read from its start, metadata of families, and deletions that blocks are not free of"
                .to_owned(),
        );
    } else if report.blocks.is_empty() && report.exemplars.is_none() {
        writeln!(out(), "nothing is damaged")?;
    }
    if let Some(one) = &report.exemplars {
        let kept = one.kept_as.as_ref().map_or(String::new(), |kept| format!("; the original is {kept}"));
        writeln!(out(), "{}: {}; nothing of it can be read{kept}", one.name, faults(one.faults.count()))?;
        lines.extend(listed(&one.faults).map(|fault| format!("lost the exemplars: {fault}")));
    }
    for one in &report.blocks {
        lines.extend(one.lost.iter().take(LOST_SHOWN_MAX).map(|lost| line(&one.name, lost)));
    }
    let further = report.blocks.iter().map(|one| one.lost.len().saturating_sub(LOST_SHOWN_MAX)).sum::<usize>();
    problems(&lines, further as u64)
}

fn line(block: &str, lost: &Lost) -> String {
    let what = match (&lost.labels, lost.range) {
        (Some(labels), Some(range)) => {
            format!("{} samples of {labels} from {} to {}", lost.samples, time(range.start_ms), time(range.end_ms))
        }
        (Some(labels), None) => labels.to_string(),
        _ => "all of it".to_owned(),
    };
    format!("{block}: lost {what}: {}", lost.reason)
}

/// A number of bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        10_000_000..10_000_000_000 => format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1024.0 / 1024.0 / 1024.0),
    }
}
