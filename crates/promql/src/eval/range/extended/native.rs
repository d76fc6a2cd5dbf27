//! Histograms in windows that reach beyond their ends.

use std::sync::Arc;

use model::ResetHint;

use super::Window;
use crate::FloatHistogram;
use crate::ast::Span;
use crate::eval::Context;
use crate::eval::notes::{self, Operation};
use crate::eval::range::RangeFn;
use crate::histogram::Incompatible;

/// Histograms from the last one before a window on.
pub(super) struct Native<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) metric: &'a str,
    pub(super) span: Span,
    pub(super) t: &'a [i64],
    pub(super) h: &'a [Arc<FloatHistogram>],
}

impl Window {
    /// Rate, increase or delta of histograms.
    pub(super) fn histogram(&self, native: &Native<'_>) -> Option<FloatHistogram> {
        let (t, h) = (native.t, native.h);
        let (first, last) = self.ends(t);
        if t[last] <= self.start || self.reach.smoothed() && t[first] > self.end {
            return None;
        }
        let within = &h[first..=last];
        if within.iter().any(|histogram| histogram.is_custom() != within[0].is_custom()) {
            return native.incompatible();
        }
        if self.counter() && within.iter().any(|histogram| histogram.is_gauge()) {
            native.warn(notes::not_counter(native.metric));
        }
        let left = match self.reach.smoothed() && t[first] < self.start {
            true => native.interpolated(first, self.start, self.counter())?,
            false => FloatHistogram::clone(&h[first]),
        };
        let right = match self.reach.smoothed() && last > 0 && t[last] > self.end {
            true => native.interpolated(last - 1, self.end, self.counter())?,
            false => FloatHistogram::clone(&h[last]),
        };
        if !(self.counter() || left.is_gauge() && right.is_gauge()) {
            native.warn(notes::not_gauge(native.metric));
        }
        let mut difference = right.clone();
        native.subtract(&mut difference, &left)?;
        if self.counter()
            && let Some(correction) = self.correction(native, (first, last), &left, &right)?
        {
            native.add(&mut difference, &correction)?;
        }
        if self.function == RangeFn::Rate {
            difference.divide(self.seconds);
        }
        difference.hint = ResetHint::Gauge;
        difference.compact();
        Some(difference)
    }

    /// What was counted before each reset within.
    fn correction(
        &self,
        native: &Native<'_>,
        (first, last): (usize, usize),
        left: &FloatHistogram,
        right: &FloatHistogram,
    ) -> Option<Option<FloatHistogram>> {
        let h = native.h;
        let (mut from, mut before) = (first + 1, left);
        if self.reach.smoothed() && native.t[first] < self.start && h[first + 1].is_reset_since(&h[first]) {
            // The beginning was interpolated over this reset.
            before = &h[first + 1];
            from += 1;
        }
        if from > last {
            return Some(None);
        }
        let mut correction: Option<FloatHistogram> = None;
        for now in h[from..last].iter().map(|histogram| &**histogram).chain([right]) {
            if now.is_reset_since(before) {
                match &mut correction {
                    None => correction = Some(before.clone()),
                    Some(correction) => native.add(correction, before)?,
                }
            }
            before = now;
        }
        Some(correction)
    }
}

impl Native<'_> {
    fn warn(&self, text: String) {
        self.context.notes.warn(text, self.span);
    }

    pub(super) fn incompatible<T>(&self) -> Option<T> {
        self.warn(notes::mixed_schemas(self.metric));
        None
    }

    fn add(&self, to: &mut FloatHistogram, other: &FloatHistogram) -> Option<()> {
        match to.add(other) {
            Ok(noted) => self.told(noted.reconciled, Operation::Addition),
            Err(Incompatible) => self.incompatible(),
        }
    }

    fn subtract(&self, from: &mut FloatHistogram, other: &FloatHistogram) -> Option<()> {
        match from.subtract(other) {
            Ok(noted) => self.told(noted.reconciled, Operation::Subtraction),
            Err(Incompatible) => self.incompatible(),
        }
    }

    fn told(&self, reconciled: bool, operation: Operation) -> Option<()> {
        if reconciled {
            self.context.notes.inform(notes::reconciled(operation), self.span);
        }
        Some(())
    }

    /// Between a histogram and the one after it.
    pub(super) fn interpolated(&self, at: usize, t: i64, counter: bool) -> Option<FloatHistogram> {
        let (before, after) = (&self.h[at], &self.h[at + 1]);
        if t == self.t[at] {
            return Some(FloatHistogram::clone(before));
        }
        if t == self.t[at + 1] {
            return Some(FloatHistogram::clone(after));
        }
        let share = (t - self.t[at]) as f64 / (self.t[at + 1] - self.t[at]) as f64;
        let mut between = FloatHistogram::clone(after);
        if counter && after.is_reset_since(before) {
            between.multiply(share);
            return Some(between);
        }
        self.subtract(&mut between, before)?;
        between.multiply(share);
        self.add(&mut between, before)?;
        Some(between)
    }
}
