//! The aggregations that keep some series of each group as they are: `topk`, `bottomk`, `limitk`, `limit_ratio`.

use std::cmp::Ordering;

use model::Labels;

use crate::ast::{AggregateOp, Span};
use crate::eval::format::general;
use crate::eval::matrix::{Matrix, is_histogram, is_present};
use crate::eval::notes::ignored_in;
use crate::eval::{Context, EvalError};
use crate::raw;

/// `topk`, `bottomk` and `limitk`.
pub(super) fn k(
    context: &Context,
    op: AggregateOp,
    matrix: &Matrix,
    members: &[Vec<usize>],
    param: &[f64],
    span: Span,
) -> Result<Matrix, EvalError> {
    let (low, high) = super::bounds(param);
    if param.iter().any(|v| v.is_nan()) {
        return Err(EvalError::Execution("Parameter value is NaN".to_owned()));
    }
    if high < 1.0 {
        return Ok(Matrix::new(context, matrix.steps()));
    }
    if low <= i64::MIN as f64 {
        return Err(super::out_of_int64(low));
    }
    if high >= i64::MAX as f64 {
        return Err(super::out_of_int64(high));
    }
    let mut kept = vec![false; matrix.len() * matrix.steps()];
    let mut order = Vec::new();
    let mut picked = Best { places: Vec::new(), largest: op == AggregateOp::TopK };
    for rows in members {
        context.check_cancelled()?;
        for (step, k) in param.iter().enumerate() {
            let k = (*k as i64).clamp(0, matrix.len() as i64) as usize;
            picked.places.clear();
            let candidates = rows.iter().map(|row| (matrix.row(*row)[step], *row)).filter(|(v, _)| is_present(*v));
            if op == AggregateOp::LimitK {
                picked.places.extend(candidates.take(k));
            } else if k > 0 {
                let mut has_histogram = false;
                for (v, row) in candidates {
                    if is_histogram(v) {
                        has_histogram = true;
                    } else {
                        picked.offer((v, row), k);
                    }
                }
                if has_histogram {
                    context.notes.inform(ignored_in(op.as_str()), span);
                }
                picked.sort();
            }
            for (_, row) in &picked.places {
                kept[row * matrix.steps() + step] = true;
            }
            order.extend(picked.places.iter().map(|(_, row)| *row));
        }
    }
    if matrix.steps() > 1 {
        order = (0..matrix.len()).collect();
    }
    keep(context, matrix, &order, &kept)
}

/// The largest or smallest so far, as a heap with the worst of them first; NaN is worse than everything. It moves as that of Prometheus does, so that of equals the
/// same ones are left.
struct Best {
    places: Vec<(f64, usize)>,
    largest: bool,
}

impl Best {
    /// Whether a value is better than another.
    fn is_better(&self, v: f64, than: f64) -> bool {
        let is_better = if self.largest { v > than } else { v < than };
        is_better || (than.is_nan() && !v.is_nan())
    }

    /// Whether one belongs above another in the heap.
    fn is_worse(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.places[a].0, self.places[b].0);
        a.is_nan() || if self.largest { a < b } else { a > b }
    }

    /// Takes one in if there are less than `k`, which is not zero, or it is better than the worst.
    fn offer(&mut self, one: (f64, usize), k: usize) {
        if self.places.len() < k {
            self.places.push(one);
            self.up(self.places.len() - 1);
        } else if self.is_better(one.0, self.places[0].0) {
            self.places[0] = one;
            self.down(0);
        }
    }

    fn up(&mut self, mut at: usize) {
        while at > 0 && self.is_worse(at, (at - 1) / 2) {
            self.places.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let mut below = 2 * at + 1;
            if below >= self.places.len() {
                return;
            }
            if below + 1 < self.places.len() && self.is_worse(below + 1, below) {
                below += 1;
            }
            if !self.is_worse(below, at) {
                return;
            }
            self.places.swap(at, below);
            at = below;
        }
    }

    /// Brings the best to the front; it is no heap then.
    fn sort(&mut self) {
        let largest = self.largest;
        self.places.sort_by(|a, b| -> Ordering {
            let (first, second) = if largest { (b.0, a.0) } else { (a.0, b.0) };
            first.partial_cmp(&second).unwrap_or_else(|| a.0.is_nan().cmp(&b.0.is_nan()))
        });
    }
}

/// `limit_ratio`: about that share of the series, always the same ones; a negative ratio keeps the others.
pub(super) fn ratio(context: &Context, matrix: &Matrix, param: &[f64], span: Span) -> Result<Matrix, EvalError> {
    let (low, high) = super::bounds(param);
    if param.iter().all(|v| *v == 0.0) {
        return Ok(Matrix::new(context, matrix.steps()));
    }
    if param.iter().any(|v| v.is_nan()) {
        return Err(EvalError::Execution("Ratio value is NaN".to_owned()));
    }
    for (v, outside, to) in [(high, high > 1.0, 1.0), (low, low < -1.0, -1.0)] {
        if outside {
            let (v, to) = (general(v), general(to));
            let text = format!("ratio value should be between -1 and 1, got {v}, capping to {to}");
            context.notes.warn(text, span);
        }
    }
    let mut kept = Vec::with_capacity(matrix.len() * matrix.steps());
    for row in 0..matrix.len() {
        let offset = hash(matrix.labels(row)) as f64 / u64::MAX as f64;
        kept.extend(param.iter().map(|ratio| {
            let ratio = ratio.clamp(-1.0, 1.0);
            if ratio >= 0.0 { offset < ratio } else { offset >= 1.0 + ratio }
        }));
    }
    keep(context, matrix, &(0..matrix.len()).collect::<Vec<_>>(), &kept)
}

/// The hash of Prometheus over names and values, each behind its length in a byte or, from 255 on, in three after one of all ones.
fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::new();
    for text in labels.iter().flat_map(|(name, value)| [name, value]).map(raw::bytes) {
        match u8::try_from(text.len()) {
            Ok(length) if length < u8::MAX => bytes.push(length),
            _ => {
                bytes.push(u8::MAX);
                bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
            }
        }
        bytes.extend_from_slice(&text);
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0)
}

/// The series in this order, with the cells that are kept.
fn keep(context: &Context, matrix: &Matrix, order: &[usize], kept: &[bool]) -> Result<Matrix, EvalError> {
    let n = matrix.steps();
    let mut out = Matrix::new(context, n);
    for &row in order {
        out.add(matrix.labels(row).clone(), matrix.drop_name(row))?;
        let any = out.copy(out.len() - 1, matrix, row, |step| kept[row * n + step])?;
        if !any {
            out.pop();
        }
    }
    Ok(out)
}
