//! `weir queries`: the queries that a running Weir answers now, and those of late; and the end of one of them.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::{Format, QueriesAction, QueriesArgs};
use crate::client::{Client, percent};
use crate::output::{Table, out};

const ACTIVE: &str = "/api/v1/status/active_queries";
const TOP: &str = "/api/v1/status/top_queries";

/// Asks, and writes the answer.
pub(crate) async fn queries(args: &QueriesArgs) -> anyhow::Result<ExitCode> {
    if let Some(QueriesAction::Cancel { id, server }) = &args.action {
        let answer = Client::new(&server.url)?.delete(&format!("{ACTIVE}/{}", percent(id))).await?;
        writeln!(out(), "cancelled {}", one_line(&answer["data"]["query"]))?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = Client::new(&args.server.url)?;
    let answer = client.call(if args.top { TOP } else { ACTIVE }, &[]).await?;
    for text in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        writeln!(std::io::stderr(), "warning: {text}")?;
    }
    let mut out = out();
    if args.output == Format::Json {
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = if args.top { top(&answer["data"])? } else { active(&answer["data"])? };
    match args.output {
        Format::Csv => table.write_csv(&mut out)?,
        _ if table.is_empty() => writeln!(std::io::stderr(), "no queries")?,
        _ => table.write_aligned(&mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The queries that are there, those first that came first.
fn active(data: &Value) -> anyhow::Result<Table> {
    let mut table = Table::new(["ID", "AGE", "STAGE", "SAMPLES", "MEMORY", "CLIENT", "QUERY"]);
    for one in data.as_array().context("the answer is not one of Weir's API")? {
        let kind = one["kind"].as_str().unwrap_or("");
        let query = one_line(&one["query"]);
        table.push(vec![
            one["id"].as_str().unwrap_or("").to_owned(),
            seconds(&one["duration_seconds"]),
            one["stage"].as_str().unwrap_or("").to_owned(),
            one["samples_read"].to_string(),
            bytes(one["memory_bytes"].as_u64().unwrap_or(0)),
            one["remote_addr"].as_str().unwrap_or("").to_owned(),
            // What is no expression says what it is.
            if is_expression(kind) { query } else { format!("{kind}: {query}") },
        ]);
    }
    Ok(table)
}

/// The queries of late, one list after the other.
fn top(data: &Value) -> anyhow::Result<Table> {
    let mut table = Table::new(["TOP BY", "COUNT", "SECONDS", "RANGE", "QUERY"]);
    let lists = [
        ("count", "topByCount", ""),
        ("average time", "topByAvgDuration", "avgDurationSeconds"),
        ("total time", "topBySumDuration", "sumDurationSeconds"),
    ];
    for (by, list, figure) in lists {
        for one in data[list].as_array().context("the answer is not one of Weir's API")? {
            let kind = one["kind"].as_str().unwrap_or("");
            let query = one_line(&one["query"]);
            let range_ms = one["timeRangeSeconds"].as_i64().unwrap_or(0).saturating_mul(1000);
            table.push(vec![
                by.to_owned(),
                one["count"].to_string(),
                if figure.is_empty() { String::new() } else { seconds(&one[figure]) },
                if range_ms == 0 { String::new() } else { model::time::format_duration_ms(range_ms) },
                if is_expression(kind) { query } else { format!("{kind}: {query}") },
            ]);
        }
    }
    Ok(table)
}

fn is_expression(kind: &str) -> bool {
    matches!(kind, "query" | "query_range")
}

fn one_line(text: &Value) -> String {
    text.as_str().unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As `1m3.250s`, to a millisecond, and below it to a microsecond.
pub(super) fn seconds(value: &Value) -> String {
    let took = Duration::try_from_secs_f64(value.as_f64().unwrap_or(0.0)).unwrap_or_default();
    let minutes = took.as_secs() / 60;
    match minutes {
        0 if took < Duration::from_millis(1) => format!("{:.6}s", took.as_secs_f64()),
        0 => format!("{:.3}s", took.as_secs_f64()),
        _ => format!("{minutes}m{:.3}s", (took - Duration::from_secs(60 * minutes)).as_secs_f64()),
    }
}

/// As `1.5 MiB`.
pub(super) fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(table: &Table) -> String {
        let mut out = Vec::new();
        table.write_aligned(&mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_query_that_is_there_is_a_line() {
        let data = json!([
            {"id": "00ab", "kind": "query_range", "query": "sum(\n  up)", "stage": "evaluating", "duration_seconds": 63.25,
             "samples_read": 120, "memory_bytes": 1_572_864, "remote_addr": "10.0.0.7:4000"},
            {"id": "00ac", "kind": "series", "query": "up", "stage": "waiting for a place", "duration_seconds": 0.25,
             "samples_read": 0, "memory_bytes": 12},
        ]);
        let expect = "ID    AGE       STAGE                SAMPLES  MEMORY   CLIENT         QUERY\n\
                      00ab  1m3.250s  evaluating               120  1.5 MiB  10.0.0.7:4000  sum( up)\n\
                      00ac  0.250s    waiting for a place        0  12 B                    series: up\n";
        assert_eq!(text(&active(&data).expect("a table")), expect);
        assert!(active(&json!({})).is_err());
    }

    #[test]
    fn the_queries_of_late_are_in_three_lists() {
        let one = json!({"kind": "query_range", "query": "a", "timeRangeSeconds": 3600, "count": 7});
        let (mut average, mut sum) = (one.clone(), one.clone());
        average["avgDurationSeconds"] = json!(0.0005);
        average["timeRangeSeconds"] = json!(0);
        sum["sumDurationSeconds"] = json!(1.5);
        let data = json!({"topByCount": [one], "topByAvgDuration": [average], "topBySumDuration": [sum]});
        let expect = "TOP BY        COUNT  SECONDS    RANGE  QUERY\n\
                      count             7             1h     a\n\
                      average time      7  0.000500s         a\n\
                      total time        7  1.500s     1h     a\n";
        assert_eq!(text(&top(&data).expect("a table")), expect);
    }

    #[test]
    fn bytes_are_written_for_people() {
        for (n, expect) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
        {
            assert_eq!(bytes(n), expect);
        }
    }
}
