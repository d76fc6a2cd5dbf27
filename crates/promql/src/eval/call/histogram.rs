//! Quantiles and fractions of histograms: of native ones, and of classic ones, which are series that differ in `le` alone, each with the count of observations
//! up to it. Series are grouped and their bounds sorted once; a step only collects the counts.

use std::collections::BTreeMap;

use model::{LabelsRef, METRIC_NAME};

use crate::FloatHistogram;
use crate::ast::Span;
use crate::eval::format::open_metrics;
use crate::eval::grid::Grid;
use crate::eval::labels::{Key, Numbering};
use crate::eval::matrix::{ABSENT, Matrix, is_float, is_histogram, is_present};
use crate::eval::node::{scalar, text, vector};
use crate::eval::notes::{Mended, bad_quantile, for_metric};
use crate::eval::plan::Plan;
use crate::eval::{Context, EvalError};
use crate::histogram::Told;
use crate::printer::quote;

/// The label with the upper bound of a bucket.
const BUCKET_LABEL: &str = "le";

/// Relative difference between two counts up to which they are taken for the same: what rounding does to them.
const SMALL_DELTA: f64 = 1e-12;

/// A bucket at one step.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// The series of one histogram, ascending by bound.
struct Group {
    /// Of any of its series.
    first: usize,
    /// Bound and series.
    buckets: Vec<(f64, usize)>,
}

/// `histogram_quantile(q, buckets)`.
pub(super) fn quantile(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let q = scalar(context, &args[0], grid)?;
    let matrix = vector(context, &args[1], grid)?;
    // Behind what its arguments tell.
    warn_of_bad(context, &q, args[0].span);
    let (matrix, native) = split(context, matrix, args[1].span)?;
    let (mut told, span) = (Places::default(), args[1].span);
    let classic = of_groups(context, &matrix, (span, &mut told), grid, None, |k, buckets| of_buckets(q[k], buckets))?;
    tell(context, &told, span);
    let native = of_native(context, &native, args[1].span, None, |k, histogram| histogram.quantile(q[k]))?;
    joined(context, grid, classic, native)
}

/// `histogram_quantiles(buckets, label, q…)`.
pub(super) fn quantiles(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let (matrix, native) = split(context, vector(context, &args[0], grid)?, args[0].span)?;
    let label = text(&args[1])?;
    let (mut parts, mut told) = (Vec::new(), Places::default());
    // Where buckets were mended for a quantile, those for the next ones are, so it is told once.
    let mut is_told = vec![false; grid.n];
    for arg in &args[2..] {
        let q = scalar(context, arg, grid)?;
        warn_of_bad(context, &q, arg.span);
        for k in 0..grid.n {
            // The label is the number, so a number that changes makes another series.
            if k > 0 && q[k].to_bits() == q[k - 1].to_bits() {
                continue;
            }
            let end = (k..grid.n).find(|end| q[*end].to_bits() != q[k].to_bits()).unwrap_or(grid.n);
            let named = Some((label, open_metrics(q[k])));
            let only = |at: usize| (k..end).contains(&at).then_some(q[k]);
            let place = (args[0].span, &mut told);
            let part = of_groups(context, &matrix, place, grid, named.clone(), |at, buckets| match only(at) {
                Some(q) if is_told[at] => (of_buckets(q, buckets).0, None),
                Some(q) => of_buckets(q, buckets),
                None => (ABSENT, None),
            })?;
            parts.push(part);
            let part = of_native(context, &native, args[0].span, named, |at, histogram| match only(at) {
                Some(q) => histogram.quantile(q),
                None => (ABSENT, None),
            })?;
            parts.push(part);
        }
        // What is no quantile looks at no bucket.
        is_told.iter_mut().zip(&q).for_each(|(told, q)| *told |= (0.0..=1.0).contains(q));
    }
    tell(context, &told, args[0].span);
    Matrix::concat(context, grid.n, parts)?.merge_of_steps(context, grid)
}

/// `histogram_fraction(lower, upper, buckets)`.
pub(super) fn fraction(context: &Context, args: &[Plan], grid: Grid) -> Result<Matrix, EvalError> {
    let (lower, upper) = (scalar(context, &args[0], grid)?, scalar(context, &args[1], grid)?);
    let (matrix, native) = split(context, vector(context, &args[2], grid)?, args[2].span)?;
    let (span, mut told) = (args[2].span, Places::default());
    let classic = of_groups(context, &matrix, (span, &mut told), grid, None, |k, buckets| {
        (fraction_of(lower[k], upper[k], buckets), None)
    })?;
    let native = of_native(context, &native, span, None, |k, histogram| histogram.fraction(lower[k], upper[k]))?;
    joined(context, grid, classic, native)
}

/// Floats and native histograms, each by themselves. Where a native one has the labels of a classic one, neither is used, which is told.
fn split(context: &Context, matrix: Matrix, span: Span) -> Result<(Matrix, Matrix), EvalError> {
    if !matrix.has_histograms() {
        let none = Matrix::new(context, matrix.steps());
        return Ok((matrix, none));
    }
    let key = Key::without_only(BUCKET_LABEL);
    let mut numbers = Numbering::default();
    let n = matrix.steps();
    let keys: Vec<usize> = (0..matrix.len()).map(|row| numbers.number(&key, matrix.labels(row).as_ref())).collect();
    let mut classic = vec![false; numbers.len() * n];
    for (row, number) in keys.iter().enumerate() {
        if bound(matrix.labels(row).as_ref()).is_some() {
            for (step, v) in matrix.row(row).iter().enumerate() {
                classic[number * n + step] |= is_float(*v);
            }
        }
    }
    let is_both = |row: usize, step: usize| {
        // With a label `le` of its own it is another series than the buckets together are.
        matrix.labels(row).get(BUCKET_LABEL).is_none() && classic[keys[row] * n + step]
    };
    let mut both = vec![false; numbers.len() * n];
    for row in 0..matrix.len() {
        for step in (0..n).filter(|step| is_histogram(matrix.row(row)[*step]) && is_both(row, *step)) {
            both[keys[row] * n + step] = true;
            let text = "vector contains a mix of classic and native histograms".to_owned();
            context.notes.warn(for_metric(text, metric_name(context, matrix.labels(row).as_ref())), span);
        }
    }
    let (mut floats, mut native) = (Matrix::new(context, n), Matrix::new(context, n));
    for row in 0..matrix.len() {
        let free = |step: usize| !both[keys[row] * n + step];
        for (out, histograms) in [(&mut floats, false), (&mut native, true)] {
            out.add(matrix.labels(row).clone(), matrix.drop_name(row))?;
            let wanted = |step: usize| free(step) && is_histogram(matrix.row(row)[step]) == histograms;
            if !out.copy(out.len() - 1, &matrix, row, wanted)? {
                out.pop();
            }
        }
    }
    Ok((floats, native))
}

/// Works something out of native histograms.
fn of_native(
    context: &Context,
    matrix: &Matrix,
    span: Span,
    label: Option<(&str, String)>,
    work: impl Fn(usize, &FloatHistogram) -> (f64, Option<Told>),
) -> Result<Matrix, EvalError> {
    let mut out = Matrix::new(context, matrix.steps());
    for row in 0..matrix.len() {
        context.check_cancelled()?;
        let mut labels = matrix.labels(row).clone();
        if let Some((name, value)) = &label {
            labels = labels.with(name, value);
        }
        let metric = metric_name(context, labels.as_ref()).to_owned();
        let cells = out.add(labels, matrix.drop_name(row))?;
        for (step, cell) in cells.iter_mut().enumerate() {
            let Some(histogram) = matrix.histogram(row, step) else { continue };
            let (value, told) = work(step, histogram);
            *cell = value;
            let text = match told {
                None => continue,
                Some(Told::QuantileIsNan) => "input to histogram_quantile has NaN observations, result is NaN",
                Some(Told::QuantileIsSkewed) => {
                    "input to histogram_quantile has NaN observations, result is skewed higher"
                }
                Some(Told::FractionExcludes) => {
                    "input to histogram_fraction has NaN observations, which are excluded from all fractions"
                }
            };
            context.notes.inform(for_metric(text.to_owned(), &metric), span);
        }
        if !cells.iter().any(|v| is_present(*v)) {
            out.pop();
        }
    }
    out.drop_names(context, false)
}

fn joined(context: &Context, grid: Grid, classic: Matrix, native: Matrix) -> Result<Matrix, EvalError> {
    Matrix::concat(context, grid.n, vec![classic, native])?.merge_of_steps(context, grid)
}

fn warn_of_bad(context: &Context, q: &[f64], span: Span) {
    let mut before = None;
    for q in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        if before != Some(q.to_bits()) {
            context.notes.warn(bad_quantile(*q), span);
            before = Some(q.to_bits());
        }
    }
}

/// Where buckets were mended at each step, by metric.
type Places = BTreeMap<String, Vec<Option<Mended>>>;

fn tell(context: &Context, told: &Places, span: Span) {
    for (metric, steps) in told {
        context.notes.mended(metric, steps, span);
    }
}

/// Works something out of the buckets of each histogram at each step, and notes where they were mended.
fn of_groups(
    context: &Context,
    matrix: &Matrix,
    (span, told): (Span, &mut Places),
    grid: Grid,
    label: Option<(&str, String)>,
    work: impl Fn(usize, &mut Vec<Bucket>) -> (f64, Option<Mended>),
) -> Result<Matrix, EvalError> {
    let key = Key::without_only(BUCKET_LABEL);
    let mut out = Matrix::new(context, grid.n);
    let mut buckets = Vec::new();
    for group in groups(context, matrix, span, &key) {
        context.check_cancelled()?;
        let mut labels = key.labels(matrix.labels(group.first).as_ref());
        if let Some((name, value)) = &label {
            labels = labels.with(name, value);
        }
        let metric = metric_name(context, labels.as_ref()).to_owned();
        let cells = out.add(labels, matrix.drop_name(group.first))?;
        for (k, cell) in cells.iter_mut().enumerate() {
            buckets.clear();
            let counts = group.buckets.iter().map(|(upper, row)| Bucket { upper: *upper, count: matrix.row(*row)[k] });
            buckets.extend(counts.filter(|bucket| is_present(bucket.count)));
            if buckets.is_empty() {
                continue;
            }
            let (value, mended) = work(k, &mut buckets);
            *cell = value;
            if let Some(mended) = mended {
                let (first_ms, last_ms) = (grid.at(k), grid.at(k));
                let steps = told.entry(metric.clone()).or_insert_with(|| vec![None; grid.n]);
                let mended = Mended { first_ms, last_ms, ..mended };
                steps[k] = Some(mended.joined(steps[k].as_ref()));
            }
        }
        if !cells.iter().any(|v| is_present(*v)) {
            out.pop();
        }
    }
    out.drop_names(context, false)
}

fn metric_name<'a>(context: &Context, labels: LabelsRef<'a>) -> &'a str {
    // The name is known only where it has not been dropped yet.
    if context.params.features.delayed_name_removal { labels.get(METRIC_NAME).unwrap_or("") } else { "" }
}

/// The upper bound of the bucket of a series.
fn bound(labels: LabelsRef<'_>) -> Option<f64> {
    labels.get(BUCKET_LABEL).unwrap_or("").parse().ok().filter(|bound: &f64| !bound.is_nan())
}

fn groups(context: &Context, matrix: &Matrix, span: Span, key: &Key) -> Vec<Group> {
    let mut numbers = Numbering::default();
    let mut groups: Vec<Group> = Vec::new();
    for row in 0..matrix.len() {
        let labels = matrix.labels(row).as_ref();
        let Some(upper) = bound(labels) else {
            if matrix.row(row).iter().all(|v| !is_present(*v)) {
                continue;
            }
            let bound = labels.get(BUCKET_LABEL).unwrap_or("");
            let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(bound));
            context.notes.warn(for_metric(text, metric_name(context, labels)), span);
            continue;
        };
        let number = numbers.number(key, labels);
        if number == groups.len() {
            groups.push(Group { first: row, buckets: Vec::new() });
        }
        groups[number].buckets.push((upper, row));
    }
    groups.iter_mut().for_each(|group| group.buckets.sort_by(|a, b| a.0.total_cmp(&b.0)));
    groups
}

/// The quantile, linear within a bucket, and what had to be mended so that counts do not fall.
fn of_buckets(q: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Mended>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !has_top(buckets) {
        return (f64::NAN, None);
    }
    join_same_bounds(buckets);
    let mended = make_monotonic(buckets);
    let last = buckets.len() - 1;
    if last == 0 || buckets[last].count == 0.0 {
        return (f64::NAN, mended);
    }
    let mut rank = q * buckets[last].count;
    let at = first_that(last, |at| buckets[at].count >= rank);
    let value = if at == last {
        buckets[last - 1].upper
    } else if at == 0 && buckets[0].upper <= 0.0 {
        buckets[0].upper
    } else {
        let (mut lower, mut count) = (0.0, buckets[at].count);
        if at > 0 {
            lower = buckets[at - 1].upper;
            count -= buckets[at - 1].count;
            rank -= buckets[at - 1].count;
        }
        lower + (buckets[at].upper - lower) * (rank / count)
    };
    (value, mended)
}

/// The first place at which this holds, or `n`, by halves: where counts that are no numbers stand between others it is the place that Prometheus finds.
fn first_that(n: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut from, mut to) = (0, n);
    while from < to {
        let middle = (from + to) / 2;
        if holds(middle) {
            to = middle;
        } else {
            from = middle + 1;
        }
    }
    from
}

/// Whether the highest bucket has everything.
fn has_top(buckets: &[Bucket]) -> bool {
    buckets.last().is_some_and(|bucket| bucket.upper == f64::INFINITY)
}

fn join_same_bounds(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, before| {
        let same = next.upper == before.upper;
        if same {
            before.count += next.count;
        }
        same
    });
}

/// Lifts counts that are lower than one before; differences that rounding makes are evened out and not told.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Mended> {
    let mut mended: Option<Mended> = None;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        let count = bucket.count;
        if count == before {
            continue;
        }
        if nearly_equal(before, count) {
            bucket.count = before;
        } else if count < before {
            bucket.count = before;
            let m = mended.get_or_insert(Mended {
                first_ms: 0,
                last_ms: 0,
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_diff: 0.0,
                count: 1,
            });
            m.min_bucket = m.min_bucket.min(bucket.upper);
            m.max_bucket = m.max_bucket.max(bucket.upper);
            m.max_diff = m.max_diff.max(before - count);
        } else {
            before = count;
        }
    }
    mended
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// The share of the observations between two bounds, linear within a bucket.
fn fraction_of(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if !has_top(buckets) {
        return f64::NAN;
    }
    join_same_bounds(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let below = |v: f64| rank_below(v, buckets).filter(|rank| *rank <= count || rank.is_nan()).unwrap_or(count);
    (below(upper) - below(lower)) / count
}

/// How many observations lie below a value; nothing if it is above all bounds.
fn rank_below(v: f64, buckets: &[Bucket]) -> Option<f64> {
    let mut rank = 0.0;
    let mut low = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    for bucket in buckets {
        if low >= v {
            return Some(rank);
        }
        if low < v && bucket.upper > v {
            if low == f64::NEG_INFINITY {
                return Some(bucket.count);
            }
            return Some(rank + (bucket.count - rank) * (v - low) / (bucket.upper - low));
        }
        rank = bucket.count;
        low = bucket.upper;
    }
    None
}
