//! Durations that are expressions become milliseconds.

use super::Planner;
use crate::ast::{BinaryOp, DurationExpr, DurationNode, DurationOp};
use crate::eval::EvalError;
use crate::parser::SECONDS_MAX;

/// Nanoseconds of a millisecond.
pub(super) const NANOSECONDS: i64 = 1_000_000;

/// The nanoseconds of a duration of so many milliseconds; what is worked out is cut to these.
pub(super) fn nanoseconds(duration: &DurationExpr, ms: i64) -> i64 {
    match duration {
        DurationExpr::Literal(ns) => *ns,
        DurationExpr::Computed(_) => ms.saturating_mul(NANOSECONDS),
    }
}

impl Planner<'_> {
    /// The milliseconds of a duration that has to be more than zero.
    pub(super) fn positive(&self, duration: &DurationExpr) -> Result<i64, EvalError> {
        self.duration(duration, false)
    }

    /// The milliseconds of a duration.
    pub(super) fn duration(&self, duration: &DurationExpr, negative: bool) -> Result<i64, EvalError> {
        let node = match duration {
            DurationExpr::Literal(ns) => return Ok(ns / NANOSECONDS),
            DurationExpr::Computed(node) => node,
        };
        let seconds = self.seconds(node)?;
        let fail = |what: &str| Err(fault(node, what));
        if !seconds.is_finite() {
            return fail("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !negative {
            return fail("duration must be greater than 0");
        }
        // Nanoseconds in 64 bits, as Prometheus keeps them.
        if seconds.abs() > SECONDS_MAX {
            return fail("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, node: &DurationNode) -> Result<f64, EvalError> {
        Ok(match &node.op {
            DurationOp::Seconds(n) => n.value,
            DurationOp::Step => self.params.step_ms as f64 / 1000.0,
            DurationOp::Range => (self.end_ms() - self.params.start_ms) as f64 / 1000.0,
            DurationOp::Plus(inner) => self.seconds(inner)?,
            DurationOp::Negated(inner) => -self.seconds(inner)?,
            DurationOp::Min(a, b) => super::functions::go_min(self.seconds(a)?, self.seconds(b)?),
            DurationOp::Max(a, b) => super::functions::go_max(self.seconds(a)?, self.seconds(b)?),
            DurationOp::Arithmetic(op, a, b) => {
                let (a, b) = (self.seconds(a)?, self.seconds(b)?);
                match op {
                    BinaryOp::Add => a + b,
                    BinaryOp::Sub => a - b,
                    BinaryOp::Mul => a * b,
                    BinaryOp::Div if b == 0.0 => return Err(fault(node, "division by zero")),
                    BinaryOp::Div => a / b,
                    BinaryOp::Mod if b == 0.0 => return Err(fault(node, "modulo by zero")),
                    BinaryOp::Mod => a % b,
                    BinaryOp::Pow => a.powf(b),
                    _ => return Err(fault(node, "unexpected duration expression operator")),
                }
            }
        })
    }
}

fn fault(node: &DurationNode, what: &str) -> EvalError {
    EvalError::Duration(format!("{}:{}: {what}", node.span.start, node.span.end))
}
