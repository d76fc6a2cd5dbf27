//! `weir query`: an expression, asked of a running Weir.

mod tree;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::{Format, QueryArgs};
use crate::client::Client;
use crate::output::{Table, out, rfc3339};

/// Asks, and writes the answer; warnings go to standard error.
pub(crate) async fn query(args: &QueryArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server.url)?;
    let now_ms = runtime::clock::now_ms();
    let asks = [("explain", args.explain), ("analyze", args.analyze)].into_iter().filter(|(_, asks)| *asks);
    let asks: Vec<(&str, &str)> = asks.map(|(name, _)| (name, "1")).collect();
    let answer = match &args.start {
        None => {
            let time = time(args.time.as_deref(), now_ms)?;
            let form = [&[("query", args.expr.as_str()), ("time", &time)], asks.as_slice()].concat();
            client.call("/api/v1/query", &form).await
        }
        Some(start) => {
            let (start, end) = (time(Some(start), now_ms)?, time(args.end.as_deref(), now_ms)?);
            let form = [("query", args.expr.as_str()), ("start", &start), ("end", &end), ("step", &args.step)];
            client.call("/api/v1/query_range", &[&form, asks.as_slice()].concat()).await
        }
    };
    let answer = answer.map_err(|error| anyhow::anyhow!("{}", pointed(&args.expr, &error.to_string())))?;
    for kind in ["warnings", "infos"] {
        for text in answer[kind].as_array().into_iter().flatten().filter_map(Value::as_str) {
            writeln!(std::io::stderr(), "{}: {text}", kind.trim_end_matches('s'))?;
        }
    }
    let mut out = out();
    if args.output == Format::Json {
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let data = &answer["data"];
    let table = match (args.explain, args.analyze) {
        (true, _) => tree::explanation(&data["explain"])?,
        (_, true) => tree::analysis(&data["analysis"])?,
        _ => table(data)?,
    };
    match args.output {
        Format::Csv => table.write_csv(&mut out)?,
        _ if table.is_empty() => writeln!(std::io::stderr(), "no series")?,
        _ => table.write_aligned(&mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A time for the server: `-1h` is counted from now, everything else is the server's to read.
fn time(text: Option<&str>, now_ms: i64) -> anyhow::Result<String> {
    let seconds = |ms: i64| format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000));
    match text {
        None | Some("now") => Ok(seconds(now_ms)),
        Some(text) => match text.strip_prefix('-') {
            Some(ago) if ago.parse::<f64>().is_err() => {
                let ago = model::time::parse_duration_ms(ago).with_context(|| format!("the time {text:?}"))?;
                Ok(seconds(now_ms - ago))
            }
            _ => Ok(text.to_owned()),
        },
    }
}

/// A parse error with the line that it is about, and a mark under the place.
fn pointed(expr: &str, error: &str) -> String {
    match position(error) {
        Some((line, column)) => match expr.lines().nth(line - 1) {
            Some(text) => format!("{error}\n  {text}\n  {}^", " ".repeat(column - 1)),
            None => error.to_owned(),
        },
        None => error.to_owned(),
    }
}

/// Line and column of `…: 1:5: parse error: …`, both from 1.
fn position(error: &str) -> Option<(usize, usize)> {
    let before = error.split(": parse error").next().filter(|before| before.len() < error.len())?;
    let mut numbers = before.rsplit(' ').next()?.split(':').map(str::parse::<usize>);
    let (line, column) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (line > 0 && column > 0).then_some((line, column))
}

/// One row a sample, one column a label.
pub(super) fn table(data: &Value) -> anyhow::Result<Table> {
    let result = &data["result"];
    if matches!(data["resultType"].as_str(), Some("scalar" | "string")) {
        let mut table = Table::new(["TIME", "VALUE"]);
        table.push(sample(result)?);
        return Ok(table);
    }
    let series = result.as_array().context("the answer is not one of Prometheus' API")?;
    let mut names: Vec<&String> =
        series.iter().filter_map(|s| s["metric"].as_object()).flat_map(|m| m.keys()).collect();
    names.sort_by_key(|name| (*name != model::labels::METRIC_NAME, name.as_str()));
    names.dedup();
    let header =
        names.iter().map(|name| name.as_str()).map(|n| if n == model::labels::METRIC_NAME { "NAME" } else { n });
    let mut table = Table::new(header.chain(["TIME", "VALUE"]));
    for one in series {
        let labels: Vec<String> =
            names.iter().map(|n| one["metric"][n.as_str()].as_str().unwrap_or("").to_owned()).collect();
        let samples = one["values"].as_array().map_or_else(|| std::slice::from_ref(&one["value"]), Vec::as_slice);
        for value in samples {
            let mut row = labels.clone();
            row.extend(sample(value)?);
            table.push(row);
        }
    }
    Ok(table)
}

/// `[seconds, "value"]`
fn sample(value: &Value) -> anyhow::Result<Vec<String>> {
    let (Some(time), Some(text)) = (value[0].as_f64(), value[1].as_str()) else { bail!("not a sample: {value}") };
    Ok(vec![rfc3339(time), text.to_owned()])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(data: &Value) -> String {
        let mut out = Vec::new();
        table(data).expect("a table").write_aligned(&mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_vector_has_a_column_for_each_label_with_the_name_first() {
        let data = json!({"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "Zone": "z", "job": "a"}, "value": [1790000000, "1"]},
            {"metric": {"__name__": "up", "job": "b"}, "value": [1790000000.5, "0"]},
        ]});
        let expect = "NAME  Zone  job  TIME                      VALUE\n\
                      up    z     a    2026-09-21T14:13:20Z          1\n\
                      up          b    2026-09-21T14:13:20.500Z      0\n";
        assert_eq!(text(&data), expect);
    }

    #[test]
    fn a_matrix_has_a_row_for_each_sample_and_a_scalar_one() {
        let data = json!({"resultType": "matrix", "result": [
            {"metric": {"job": "a"}, "values": [[1790000000, "1"], [1790000060, "2.5"]]},
        ]});
        let expect = "job  TIME                  VALUE\n\
                      a    2026-09-21T14:13:20Z      1\n\
                      a    2026-09-21T14:14:20Z    2.5\n";
        assert_eq!(text(&data), expect);
        let data = json!({"resultType": "scalar", "result": [1790000000, "3"]});
        assert_eq!(text(&data), "TIME                  VALUE\n2026-09-21T14:13:20Z      3\n");
    }

    #[test]
    fn times_ago_are_counted_from_now_and_others_are_left_to_the_server() {
        let at = |text: &str| time(Some(text), 1_790_000_000_250).expect("a time");
        assert_eq!(at("-1h30m"), "1789994600.250");
        assert_eq!(at("now"), "1790000000.250");
        assert_eq!(at("2026-11-24T12:00:00Z"), "2026-11-24T12:00:00Z");
        assert_eq!(at("-5.5"), "-5.5");
        assert!(time(Some("-1fortnight"), 0).is_err());
    }

    #[test]
    fn a_parse_error_points_at_its_place() {
        let error = "bad_data: 2:3: parse error: unexpected end of input";
        assert_eq!(pointed("a +\nb+", error), format!("{error}\n  b+\n    ^"));
        assert_eq!(pointed("a", "timeout: too slow"), "timeout: too slow");
        assert_eq!(pointed("a", "bad_data: 7:1: parse error: x"), "bad_data: 7:1: parse error: x");
    }
}
