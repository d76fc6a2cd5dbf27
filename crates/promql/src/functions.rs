//! The table of functions: names, argument types, result types.

use crate::ast::ValueType::{self, InstantVector, RangeVector, Scalar, String};

/// What the parser knows of a function.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The types of its arguments, optional ones included.
    pub args: &'static [ValueType],
    /// How many of the last arguments may be left out; `None` if the last one may be left out and may be repeated.
    pub optional: Option<usize>,
    /// The type of its result.
    pub returns: ValueType,
    /// Whether it needs the feature `promql-experimental-functions`.
    pub experimental: bool,
}

/// All functions, by name.
pub fn all() -> &'static [Function] {
    FUNCTIONS
}

/// The function of that name.
pub fn lookup(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|at| &FUNCTIONS[at])
}

/// The function whose name is nearest to one that does not exist, if one is near.
pub fn did_you_mean(name: &str) -> Option<&'static str> {
    let near = FUNCTIONS.iter().map(|f| (distance(f.name, name), !f.name.starts_with(name), f.name)).min()?;
    (near.0 <= 1 + name.len() / 4).then_some(near.2)
}

/// Levenshtein's distance, in bytes. Names are short: the time is bounded by the length that the parser takes.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = substituted.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

const fn function(
    name: &'static str,
    args: &'static [ValueType],
    optional: Option<usize>,
    returns: ValueType,
    experimental: bool,
) -> Function {
    Function { name, args, optional, returns, experimental }
}

/// A vector, the name of a label, and up to ten quantiles.
const QUANTILES: &[ValueType] =
    &[InstantVector, String, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar, Scalar];

/// Sorted by name.
static FUNCTIONS: &[Function] = &[
    function("abs", &[InstantVector], Some(0), InstantVector, false),
    function("absent", &[InstantVector], Some(0), InstantVector, false),
    function("absent_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("acos", &[InstantVector], Some(0), InstantVector, false),
    function("acosh", &[InstantVector], Some(0), InstantVector, false),
    function("asin", &[InstantVector], Some(0), InstantVector, false),
    function("asinh", &[InstantVector], Some(0), InstantVector, false),
    function("atan", &[InstantVector], Some(0), InstantVector, false),
    function("atanh", &[InstantVector], Some(0), InstantVector, false),
    function("avg_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("ceil", &[InstantVector], Some(0), InstantVector, false),
    function("changes", &[RangeVector], Some(0), InstantVector, false),
    function("clamp", &[InstantVector, Scalar, Scalar], Some(0), InstantVector, false),
    function("clamp_max", &[InstantVector, Scalar], Some(0), InstantVector, false),
    function("clamp_min", &[InstantVector, Scalar], Some(0), InstantVector, false),
    function("cos", &[InstantVector], Some(0), InstantVector, false),
    function("cosh", &[InstantVector], Some(0), InstantVector, false),
    function("count_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("day_of_month", &[InstantVector], Some(1), InstantVector, false),
    function("day_of_week", &[InstantVector], Some(1), InstantVector, false),
    function("day_of_year", &[InstantVector], Some(1), InstantVector, false),
    function("days_in_month", &[InstantVector], Some(1), InstantVector, false),
    function("deg", &[InstantVector], Some(0), InstantVector, false),
    function("delta", &[RangeVector], Some(0), InstantVector, false),
    function("deriv", &[RangeVector], Some(0), InstantVector, false),
    function("double_exponential_smoothing", &[RangeVector, Scalar, Scalar], Some(0), InstantVector, true),
    function("end", &[], Some(0), Scalar, true),
    function("exp", &[InstantVector], Some(0), InstantVector, false),
    function("first_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("floor", &[InstantVector], Some(0), InstantVector, false),
    function("histogram_avg", &[InstantVector], Some(0), InstantVector, false),
    function("histogram_count", &[InstantVector], Some(0), InstantVector, false),
    function("histogram_fraction", &[Scalar, Scalar, InstantVector], Some(0), InstantVector, false),
    function("histogram_quantile", &[Scalar, InstantVector], Some(0), InstantVector, false),
    function("histogram_quantiles", QUANTILES, Some(9), InstantVector, true),
    function("histogram_stddev", &[InstantVector], Some(0), InstantVector, false),
    function("histogram_stdvar", &[InstantVector], Some(0), InstantVector, false),
    function("histogram_sum", &[InstantVector], Some(0), InstantVector, false),
    function("hour", &[InstantVector], Some(1), InstantVector, false),
    function("idelta", &[RangeVector], Some(0), InstantVector, false),
    function("increase", &[RangeVector], Some(0), InstantVector, false),
    function("info", &[InstantVector, InstantVector], Some(1), InstantVector, true),
    function("integral", &[RangeVector, Scalar], Some(1), InstantVector, true),
    function("irate", &[RangeVector], Some(0), InstantVector, false),
    function("label_join", &[InstantVector, String, String, String], None, InstantVector, false),
    function("label_replace", &[InstantVector, String, String, String, String], Some(0), InstantVector, false),
    function("last_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("ln", &[InstantVector], Some(0), InstantVector, false),
    function("log10", &[InstantVector], Some(0), InstantVector, false),
    function("log2", &[InstantVector], Some(0), InstantVector, false),
    function("mad_over_time", &[RangeVector], Some(0), InstantVector, true),
    function("max_of", &[Scalar, Scalar], Some(0), Scalar, true),
    function("max_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("min_of", &[Scalar, Scalar], Some(0), Scalar, true),
    function("min_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("minute", &[InstantVector], Some(1), InstantVector, false),
    function("month", &[InstantVector], Some(1), InstantVector, false),
    function("pi", &[], Some(0), Scalar, false),
    function("predict_linear", &[RangeVector, Scalar], Some(0), InstantVector, false),
    function("present_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("quantile_over_time", &[Scalar, RangeVector], Some(0), InstantVector, false),
    function("rad", &[InstantVector], Some(0), InstantVector, false),
    function("range", &[], Some(0), Scalar, true),
    function("rate", &[RangeVector], Some(0), InstantVector, false),
    function("resets", &[RangeVector], Some(0), InstantVector, false),
    function("round", &[InstantVector, Scalar], Some(1), InstantVector, false),
    function("scalar", &[InstantVector], Some(0), Scalar, false),
    function("sgn", &[InstantVector], Some(0), InstantVector, false),
    function("sin", &[InstantVector], Some(0), InstantVector, false),
    function("sinh", &[InstantVector], Some(0), InstantVector, false),
    function("sort", &[InstantVector], Some(0), InstantVector, false),
    function("sort_by_label", &[InstantVector, String], None, InstantVector, true),
    function("sort_by_label_desc", &[InstantVector, String], None, InstantVector, true),
    function("sort_desc", &[InstantVector], Some(0), InstantVector, false),
    function("sqrt", &[InstantVector], Some(0), InstantVector, false),
    function("start", &[], Some(0), Scalar, true),
    function("start_timestamp", &[InstantVector], Some(0), InstantVector, true),
    function("stddev_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("stdvar_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("step", &[], Some(0), Scalar, true),
    function("sum_over_time", &[RangeVector], Some(0), InstantVector, false),
    function("tan", &[InstantVector], Some(0), InstantVector, false),
    function("tanh", &[InstantVector], Some(0), InstantVector, false),
    function("time", &[], Some(0), Scalar, false),
    function("timestamp", &[InstantVector], Some(0), InstantVector, false),
    function("ts_of_first_over_time", &[RangeVector], Some(0), InstantVector, true),
    function("ts_of_last_over_time", &[RangeVector], Some(0), InstantVector, true),
    function("ts_of_max_over_time", &[RangeVector], Some(0), InstantVector, true),
    function("ts_of_min_over_time", &[RangeVector], Some(0), InstantVector, true),
    function("vector", &[Scalar], Some(0), InstantVector, false),
    function("year", &[InstantVector], Some(1), InstantVector, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_name() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        for function in FUNCTIONS {
            assert_eq!(lookup(function.name), Some(function));
        }
        assert_eq!(lookup("nope"), None);
        assert_eq!(did_you_mean("histogram_quantil"), Some("histogram_quantile"));
        assert_eq!(did_you_mean("rat"), Some("rate"));
        assert_eq!(did_you_mean("something_else_entirely"), None);
    }
}
