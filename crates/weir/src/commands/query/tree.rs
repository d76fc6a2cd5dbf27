//! The parts of a query as an indented tree, each with what the server does for it, or with what it took.

use anyhow::Context as _;
use serde_json::Value;

use crate::commands::queries::{bytes, seconds};
use crate::output::Table;

/// How each part would be evaluated.
pub(super) fn explanation(root: &Value) -> anyhow::Result<Table> {
    let mut table = Table::new(["NODE", "STEPS", "STRATEGY"]);
    walk(root, 0, &mut |node, part| {
        table.push(vec![node, number(part, "steps"), text(part, "strategy")]);
    })?;
    Ok(table)
}

/// What each part took; nothing of those that were not evaluated.
pub(super) fn analysis(root: &Value) -> anyhow::Result<Table> {
    let mut table =
        Table::new(["NODE", "TIME", "OWN TIME", "STEPS", "SERIES", "FOUND", "SAMPLES", "MEMORY", "TASKS", "STRATEGY"]);
    walk(root, 0, &mut |node, part| {
        let is_measured = part.get("wall_seconds").is_some();
        let figure = |value: String| if is_measured { value } else { String::new() };
        let mut strategy = text(part, "strategy");
        if part["series_outlined"].as_u64().is_some_and(|n| n > 0) {
            strategy.push_str(&format!("; it was for {} series", part["series_outlined"]));
        }
        table.push(vec![
            node,
            figure(seconds(&part["wall_seconds"])),
            figure(seconds(&part["own_wall_seconds"])),
            number(part, "steps"),
            figure(number(part, "series")),
            figure(number(part, "series_found")),
            figure(number(part, "samples_read")),
            figure(bytes(part["memory_bytes"].as_u64().unwrap_or(0))),
            figure(number(part, "parallel_tasks")),
            strategy,
        ]);
    })?;
    Ok(table)
}

/// Calls with each part and its text, indented by its depth.
fn walk(part: &Value, depth: usize, add: &mut impl FnMut(String, &Value)) -> anyhow::Result<()> {
    let node = part["node"].as_str().context("the answer has no plan: is it a Weir that explains?")?;
    let node = node.split_whitespace().collect::<Vec<_>>().join(" ");
    add(format!("{}{node}", "  ".repeat(depth)), part);
    for child in part["children"].as_array().into_iter().flatten() {
        walk(child, depth + 1, add)?;
    }
    Ok(())
}

fn number(part: &Value, name: &str) -> String {
    part[name].as_u64().map(|n| n.to_string()).unwrap_or_default()
}

fn text(part: &Value, name: &str) -> String {
    part[name].as_str().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text_of(table: &Table) -> String {
        let mut out = Vec::new();
        table.write_aligned(&mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn a_plan_is_an_indented_tree() {
        let root = json!({"node": "sum(\n  x)", "steps": 12, "strategy": "groups", "children": [
            {"node": "x", "steps": 1, "strategy": "newest", "children": []},
        ]});
        let expect = "NODE     STEPS  STRATEGY\n\
                      sum( x)     12  groups\n  \
                        x          1  newest\n";
        assert_eq!(text_of(&explanation(&root).expect("a plan")), expect);
        assert!(explanation(&Value::Null).is_err_and(|e| e.to_string().contains("no plan")));
    }

    #[test]
    fn an_analysis_has_figures_of_what_was_evaluated() {
        let root = json!({"node": "f(x)", "steps": 1, "strategy": "slide", "wall_seconds": 1.5, "own_wall_seconds": 0.5, "series": 2,
            "series_found": 3, "samples_read": 40, "memory_bytes": 2048, "series_outlined": 0, "parallel_tasks": 0, "children": [
            {"node": "x", "steps": 1, "strategy": "known", "wall_seconds": 1.0, "own_wall_seconds": 1.0, "series": 3,
             "series_found": 3, "samples_read": 40, "memory_bytes": 0, "series_outlined": 2, "parallel_tasks": 1, "children": []},
            {"node": "'a'", "steps": 1, "strategy": "constant", "children": []},
        ]});
        let expect = "NODE   TIME    OWN TIME  STEPS  SERIES  FOUND  SAMPLES  MEMORY   TASKS  STRATEGY\n\
                      f(x)   1.500s  0.500s        1  2       3      40       2.0 KiB  0      slide\n  \
                        x    1.000s  1.000s        1  3       3      40       0 B      1      known; it was for 2 series\n  \
                        'a'                        1                                          constant\n";
        assert_eq!(text_of(&analysis(&root).expect("an analysis")), expect);
    }
}
