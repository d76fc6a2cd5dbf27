//! `label_replace` and `label_join`: they look at labels alone, once a series.

use model::METRIC_NAME;
use regex::{Regex, RegexBuilder};

use crate::eval::grid::Grid;
use crate::eval::matrix::Matrix;
use crate::eval::node::{text, vector};
use crate::eval::plan::Plan;
use crate::eval::{Context, EvalError};
use crate::raw;

/// Compiled size of the pattern, as of those of matchers.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// `label_replace(v, dst, replacement, src, regex)`.
pub(super) fn replace(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let (to, with, from, pattern) = (text(&args[1])?, text(&args[2])?, text(&args[3])?, text(&args[4])?);
    let regex = compile(pattern)?;
    if !is_name(to) {
        return Err(EvalError::Execution(format!("invalid destination label name in label_replace(): {to}")));
    }
    let mut matrix = vector(context, &args[0], grid)?;
    let mut value = String::new();
    matrix.relabel(|labels, drop_name| match regex.captures(labels.get(from).unwrap_or("")) {
        Some(captures) => {
            value.clear();
            captures.expand(with, &mut value);
            (labels.with(to, &value), drop_name && to != METRIC_NAME)
        }
        None => (labels.clone(), drop_name),
    });
    matrix.merge_same_labels(context)
}

fn compile(pattern: &str) -> Result<Regex, EvalError> {
    let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
    // The pattern alone first, so that one that closes the group of the anchors is refused.
    let invalid = || EvalError::Execution(format!("invalid regular expression in label_replace(): {pattern}"));
    if raw::is_in(pattern) {
        return Err(invalid());
    }
    build(pattern).and_then(|_| build(&format!("^(?s:{pattern})$"))).map_err(|_| invalid())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !raw::is_in(name)
}

/// `label_join(v, dst, separator, src…)`.
pub(super) fn join(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let (to, separator) = (text(&args[1])?, text(&args[2])?);
    let from = args[3..].iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if let Some(name) = from.iter().find(|name| !is_name(name)) {
        return Err(EvalError::Execution(format!("invalid source label name in label_join(): {name}")));
    }
    if !is_name(to) {
        return Err(EvalError::Execution(format!("invalid destination label name in label_join(): {to}")));
    }
    let mut matrix = vector(context, &args[0], grid)?;
    matrix.relabel(|labels, drop_name| {
        let values: Vec<&str> = from.iter().map(|name| labels.get(name).unwrap_or("")).collect();
        (labels.with(to, &values.join(separator)), drop_name && to != METRIC_NAME)
    });
    matrix.merge_same_labels(context)
}
