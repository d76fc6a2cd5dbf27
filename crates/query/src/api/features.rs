//! `/api/v1/features`: what this server can do, in the words of Prometheus.
//!
//! Of its categories those are here that query itself answers for. A tool takes what is not there for not known.

use std::collections::BTreeMap;

use bytes::Bytes;
use promql::ast::AggregateOp;
use promql::{Features, functions};

use crate::api::Api;
use crate::number::write_string;
use crate::respond::Answer;

/// What the endpoints take, and what there is no endpoint for.
const API: &[(&str, bool)] = &[
    ("label_values_match", true),
    ("openapi_3.1", true),
    ("openapi_3.2", true),
    ("query_cost", false),
    ("query_stats", true),
    ("query_warnings", true),
    ("search", false),
    ("time_range_labels", true),
    ("time_range_series", true),
];
const PROMETHEUS: &[(&str, bool)] = &[("agent_mode", false), ("auto_reload_config", false), ("server_mode", true)];
/// What is always in the language, but for what is not there at all.
const LANGUAGE: &[(&str, bool)] = &[
    ("anchored", true),
    ("at_modifier", true),
    ("bool", true),
    ("by", true),
    ("duration_expr", true),
    ("group_left", true),
    ("group_right", true),
    ("ignoring", true),
    ("negative_offset", true),
    ("offset", true),
    ("on", true),
    ("per_query_lookback_delta", true),
    ("smoothed", true),
    ("subqueries", true),
    ("without", true),
];
const FILLS: [&str; 3] = ["fill", "fill_left", "fill_right"];
const OPERATORS: [&str; 21] = [
    "!=", "!~", "%", "*", "+", "-", "/", "<", "</", "<=", "==", "=~", ">", ">/", ">=", "@", "^", "and", "atan2", "or",
    "unless",
];
const STORAGE: &[(&str, bool)] = &[("exemplar_storage", true), ("native_histograms", true), ("st_storage", true)];

type Category = BTreeMap<&'static str, bool>;

/// `/api/v1/features`.
pub(crate) fn features(api: &Api) -> Bytes {
    let features = &api.args.features;
    let mut endpoints: Category = API.iter().copied().collect();
    endpoints.insert("admin", api.about.admin_api);
    let mut answer = Answer::new();
    let out = &mut answer.out;
    let categories = [
        ("api", endpoints),
        ("prometheus", PROMETHEUS.iter().copied().collect()),
        ("promql", language(features)),
        ("promql_functions", by_name(features)),
        ("promql_operators", operators(features)),
        ("tsdb", STORAGE.iter().copied().collect::<Category>()),
    ];
    for (at, (name, category)) in categories.into_iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        write_string(out, name);
        out.push(b':');
        for (at, (name, is_on)) in category.into_iter().enumerate() {
            out.push(if at == 0 { b'{' } else { b',' });
            write_string(out, name);
            out.extend_from_slice(if is_on { b":true" } else { b":false" });
        }
        out.push(b'}');
    }
    out.push(b'}');
    answer.finish()
}

fn language(features: &Features) -> Category {
    let mut all: Category = LANGUAGE.iter().copied().collect();
    all.extend(FILLS.map(|name| (name, features.binop_fill_modifiers)));
    all.insert("delayed_name_removal", features.delayed_name_removal);
    all.insert("type_and_unit_labels", features.type_and_unit_labels);
    all.insert("unquoted_utf8_names", features.unquoted_utf8_names);
    all.insert("per_step_stats", features.per_step_stats);
    all
}

fn by_name(features: &Features) -> Category {
    functions::all().iter().map(|f| (f.name, !f.experimental || features.experimental_functions)).collect()
}

fn operators(features: &Features) -> Category {
    let mut all: Category = OPERATORS.map(|name| (name, true)).into();
    let is_on = |op: AggregateOp| !op.is_experimental() || features.experimental_functions;
    all.extend(AggregateOp::ALL.map(|op| (op.as_str(), is_on(op))));
    all
}
