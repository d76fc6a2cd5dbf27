//! Which function a name is.

use super::{Kind, Plan};
use crate::FloatHistogram;
use crate::eval::EvalError;
use crate::eval::call::InstantFn;
use crate::eval::call::dates::Part;
use crate::eval::range::RangeFn;

type Make = fn(&str, Vec<Plan>) -> Result<Kind, EvalError>;

/// How the plan of a function is made; `None` where it is not evaluated yet.
pub(super) fn find(name: &str) -> Option<Make> {
    if map(name).is_some() {
        Some(make_map)
    } else if range(name).is_some() {
        Some(make_window)
    } else if instant(name).is_some() {
        Some(make_instant)
    } else {
        None
    }
}

/// Functions whose value differs between steps though their arguments do not.
pub(super) fn depends_on_time(name: &str) -> bool {
    matches!(
        name,
        "days_in_month"
            | "day_of_month"
            | "day_of_week"
            | "day_of_year"
            | "hour"
            | "minute"
            | "month"
            | "year"
            | "predict_linear"
            | "start_timestamp"
            | "time"
            | "timestamp"
    )
}

/// The smaller; NaN if one is.
pub(in crate::eval) fn go_min(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        f64::NEG_INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && a == b {
        if a.is_sign_negative() { a } else { b }
    } else if a < b {
        a
    } else {
        b
    }
}

/// The larger; NaN if one is.
pub(in crate::eval) fn go_max(a: f64, b: f64) -> f64 {
    -go_min(-a, -b)
}

fn make_map(name: &str, mut args: Vec<Plan>) -> Result<Kind, EvalError> {
    match (map(name), args.pop()) {
        (Some(map), Some(arg)) => Ok(Kind::Map(map, Box::new(arg))),
        _ => Err(wrong(name)),
    }
}

fn make_window(name: &str, args: Vec<Plan>) -> Result<Kind, EvalError> {
    let (ranges, args): (Vec<Plan>, Vec<Plan>) = args.into_iter().partition(|arg| matches!(arg.kind, Kind::Range(_)));
    match (range(name), ranges.into_iter().next()) {
        (Some(function), Some(range)) => Ok(Kind::Window { function, range: Box::new(range), args }),
        _ => Err(wrong(name)),
    }
}

fn make_instant(name: &str, args: Vec<Plan>) -> Result<Kind, EvalError> {
    let function = instant(name).ok_or_else(|| wrong(name))?;
    Ok(Kind::Instant(function, args))
}

// The parser has checked the arguments, so this is not reached by what it yields.
fn wrong(name: &str) -> EvalError {
    EvalError::Execution(format!("wrong arguments in call to function {name:?}"))
}

fn map(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        // One factor, as in Prometheus: the last bit depends on it.
        "rad" => |v| v * 0.017_453_292_519_943_295,
        "deg" => |v| v * 57.295_779_513_082_32,
        "sgn" => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        _ => return None,
    })
}

fn range(name: &str) -> Option<RangeFn> {
    Some(match name {
        "rate" => RangeFn::Rate,
        "increase" => RangeFn::Increase,
        "delta" => RangeFn::Delta,
        "irate" => RangeFn::Irate,
        "idelta" => RangeFn::Idelta,
        "deriv" => RangeFn::Deriv,
        "predict_linear" => RangeFn::PredictLinear,
        "double_exponential_smoothing" => RangeFn::Smooth,
        "resets" => RangeFn::Resets,
        "changes" => RangeFn::Changes,
        "avg_over_time" => RangeFn::Avg,
        "min_over_time" => RangeFn::Min,
        "max_over_time" => RangeFn::Max,
        "sum_over_time" => RangeFn::Sum,
        "count_over_time" => RangeFn::Count,
        "quantile_over_time" => RangeFn::Quantile,
        "stddev_over_time" => RangeFn::Stddev,
        "stdvar_over_time" => RangeFn::Stdvar,
        "last_over_time" => RangeFn::Last,
        "first_over_time" => RangeFn::First,
        "present_over_time" => RangeFn::Present,
        "absent_over_time" => RangeFn::Absent,
        "mad_over_time" => RangeFn::Mad,
        "ts_of_first_over_time" => RangeFn::TimeOfFirst,
        "ts_of_last_over_time" => RangeFn::TimeOfLast,
        "ts_of_max_over_time" => RangeFn::TimeOfMax,
        "ts_of_min_over_time" => RangeFn::TimeOfMin,
        "integral" => RangeFn::Integral,
        _ => return None,
    })
}

fn instant(name: &str) -> Option<InstantFn> {
    Some(match name {
        "clamp" => InstantFn::Clamp,
        "clamp_min" => InstantFn::ClampMin,
        "clamp_max" => InstantFn::ClampMax,
        "round" => InstantFn::Round,
        "scalar" => InstantFn::Scalar,
        "vector" => InstantFn::Vector,
        "time" => InstantFn::Time,
        "timestamp" => InstantFn::Timestamp,
        "start_timestamp" => InstantFn::StartTimestamp,
        "info" => InstantFn::Info,
        "max_of" => InstantFn::MaxOf,
        "min_of" => InstantFn::MinOf,
        "days_in_month" => InstantFn::Date(Part::DaysInMonth),
        "day_of_month" => InstantFn::Date(Part::DayOfMonth),
        "day_of_week" => InstantFn::Date(Part::DayOfWeek),
        "day_of_year" => InstantFn::Date(Part::DayOfYear),
        "hour" => InstantFn::Date(Part::Hour),
        "minute" => InstantFn::Date(Part::Minute),
        "month" => InstantFn::Date(Part::Month),
        "year" => InstantFn::Date(Part::Year),
        "absent" => InstantFn::Absent,
        "sort" => InstantFn::Sort { descending: false },
        "sort_desc" => InstantFn::Sort { descending: true },
        "sort_by_label" => InstantFn::SortByLabel { descending: false },
        "sort_by_label_desc" => InstantFn::SortByLabel { descending: true },
        "label_replace" => InstantFn::LabelReplace,
        "label_join" => InstantFn::LabelJoin,
        "histogram_quantile" => InstantFn::HistogramQuantile,
        "histogram_quantiles" => InstantFn::HistogramQuantiles,
        "histogram_fraction" => InstantFn::HistogramFraction,
        "histogram_count" => InstantFn::OfHistogram(FloatHistogram::count),
        "histogram_sum" => InstantFn::OfHistogram(FloatHistogram::sum),
        "histogram_avg" => InstantFn::OfHistogram(|histogram| histogram.sum() / histogram.count()),
        "histogram_stdvar" => InstantFn::OfHistogram(FloatHistogram::variance),
        "histogram_stddev" => InstantFn::OfHistogram(|histogram| histogram.variance().sqrt()),
        _ => return None,
    })
}
