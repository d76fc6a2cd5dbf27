//! `weir rules`: the rules of a running Weir, one a line, as `kubectl get` would show them.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::Value;

use crate::cli::{Format, RulesArgs};
use crate::client::Client;
use crate::output::{Table, out};

/// Asks for the rules, and writes them.
pub(crate) async fn rules(args: &RulesArgs) -> anyhow::Result<ExitCode> {
    let answer = Client::new(&args.server.url)?.call("/api/v1/rules", &[]).await?;
    let mut out = out();
    if args.output == Format::Json {
        writeln!(out, "{answer}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = table(&answer)?;
    match args.output {
        Format::Csv => table.write_csv(&mut out)?,
        _ if table.is_empty() => writeln!(std::io::stderr(), "no rules; start Weir with --rules FILE or a folder")?,
        _ => table.write_aligned(&mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(answer: &Value) -> anyhow::Result<Table> {
    let mut table = Table::new(["GROUP", "NAME", "STATE", "FIRING", "VALUE", "SINCE", "HEALTH", "EXPR"]);
    let groups = answer["data"]["groups"].as_array().context("the answer is not one of Prometheus' API")?;
    for group in groups {
        for rule in group["rules"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
            let alerts = || rule["alerts"].as_array().into_iter().flatten();
            let firing = alerts().filter(|alert| alert["state"] == "firing").count();
            // The alert that has been active longest stands for the rule.
            let oldest = alerts().min_by_key(|alert| text(&alert["activeAt"]));
            let health = match rule["lastError"].as_str().filter(|e| !e.is_empty()) {
                Some(error) => format!("{}: {error}", text(&rule["health"])),
                None => text(&rule["health"]),
            };
            table.push(vec![
                text(&group["name"]),
                text(&rule["name"]),
                text(&rule["state"]),
                firing.to_string(),
                oldest.map(|alert| text(&alert["value"])).unwrap_or_default(),
                oldest.map(|alert| text(&alert["activeAt"])).unwrap_or_default(),
                health,
                text(&rule["query"]).split_whitespace().collect::<Vec<_>>().join(" "),
            ]);
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_a_line_with_its_oldest_alert() {
        let answer = json!({"status": "success", "data": {"groups": [{"name": "heat", "rules": [
            {"name": "Hot", "state": "firing", "query": "t >\n  30", "health": "ok", "alerts": [
                {"state": "pending", "value": "31", "activeAt": "2026-01-01T00:00:09Z"},
                {"state": "firing", "value": "35", "activeAt": "2026-01-01T00:00:01Z"},
            ]},
            {"name": "Odd", "state": "inactive", "query": "x", "health": "err", "lastError": "no", "alerts": []},
        ]}]}});
        let mut out = Vec::new();
        table(&answer).expect("a table").write_csv(&mut out).expect("written");
        let expect = "GROUP,NAME,STATE,FIRING,VALUE,SINCE,HEALTH,EXPR\n\
                      heat,Hot,firing,1,35,2026-01-01T00:00:01Z,ok,t > 30\n\
                      heat,Odd,inactive,0,,,err: no,x\n";
        assert_eq!(String::from_utf8(out).expect("text"), expect);
    }
}
