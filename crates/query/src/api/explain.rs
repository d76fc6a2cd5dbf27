//! What `explain=1` and `analyze=1` add to a query: the tree of its parts, each with what the evaluator does for it and, of an analysis, what it took.

use promql::ast::ValueType;
use promql::{Explanation, Measured};
use runtime::Form;

use crate::error::Error;
use crate::number::{write_integer, write_json_number, write_string};
use crate::respond::write_list;

/// Whether a question is asked.
pub(crate) fn flag(form: &Form, name: &str) -> Result<bool, Error> {
    match form.get(name) {
        "" | "0" | "false" => Ok(false),
        "1" | "true" => Ok(true),
        text => Err(Error::parameter(name, format_args!("{text:?} is neither 1 nor 0"))),
    }
}

/// Writes a part with its parts.
pub(crate) fn write_tree(out: &mut Vec<u8>, part: &Explanation) {
    out.extend_from_slice(b"{\"node\":");
    write_string(out, &part.node);
    for (name, text) in
        [("type", part.kind), ("value_type", of_value(part.value)), ("strategy", part.strategy.as_str())]
    {
        write_name(out, name);
        write_string(out, text);
    }
    write_name(out, "steps");
    write_integer(out, part.steps as u64);
    if let Some(measured) = &part.measured {
        write_measured(out, measured);
    }
    write_name(out, "children");
    write_list(out, &part.children, write_tree);
    out.push(b'}');
}

fn write_measured(out: &mut Vec<u8>, measured: &Measured) {
    for (name, wall) in [("wall_seconds", measured.wall), ("own_wall_seconds", measured.own_wall)] {
        write_name(out, name);
        write_json_number(out, wall.as_secs_f64());
    }
    for (name, count) in [
        ("series", measured.series),
        ("series_found", measured.series_found),
        ("samples_read", measured.samples_read),
        ("memory_bytes", measured.memory_bytes),
        ("series_outlined", measured.series_outlined),
        ("parallel_tasks", measured.parallel_tasks),
    ] {
        write_name(out, name);
        write_integer(out, count);
    }
}

fn write_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn of_value(value: ValueType) -> &'static str {
    match value {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::InstantVector => "vector",
        ValueType::RangeVector => "matrix",
    }
}
