//! Lower resolutions: buckets of a schema are made of whole buckets of any higher one.

use std::sync::Arc;

use super::{Buckets, Counts, EXPONENTIAL_SCHEMAS, Histogram, InvalidHistogram, Layout, Span};

/// Schemas that clients may send and that nobody keeps: they are brought down to the highest that is kept, as a Prometheus does.
const HIGHER_SCHEMAS: std::ops::RangeInclusive<i32> = *EXPONENTIAL_SCHEMAS.end() + 1..=52;

impl Histogram {
    /// What is kept of a histogram that comes from elsewhere: itself, if it is valid; of one of a schema from 9 to 52, which has resolutions higher
    /// than any that is kept, one of schema 8.
    pub fn accepted(mut self) -> Result<Histogram, InvalidHistogram> {
        let schema = self.layout.schema;
        if !HIGHER_SCHEMAS.contains(&schema) {
            return self.validate().map(|()| self);
        }
        // Of buckets that are exponential nothing else depends on how fine they are.
        let kept = *EXPONENTIAL_SCHEMAS.end();
        Arc::make_mut(&mut self.layout).schema = kept;
        self.validate()?;
        let levels = (schema - kept) as u32;
        let layout = Arc::make_mut(&mut self.layout);
        match &mut self.counts {
            Counts::Integer(counts) => merge(layout, counts, levels, |a, b| a.saturating_add(b)),
            Counts::Float(counts) => merge(layout, counts, levels, |a, b| a + b),
        }
        Ok(self)
    }
}

fn merge<N: Copy>(layout: &mut Layout, counts: &mut Buckets<N>, levels: u32, add: impl Fn(N, N) -> N + Copy) {
    (layout.positive, counts.positive) = merged(&layout.positive, &counts.positive, levels, add);
    (layout.negative, counts.negative) = merged(&layout.negative, &counts.negative, levels, add);
}

/// The spans and counts of buckets each of which is two to `levels` of these. Spans and counts agree.
fn merged<N: Copy>(spans: &[Span], counts: &[N], levels: u32, add: impl Fn(N, N) -> N) -> (Vec<Span>, Vec<N>) {
    let (mut out, mut sums): (Vec<Span>, Vec<N>) = (Vec::new(), Vec::new());
    let mut counts = counts.iter().copied();
    // The next bucket's index, and the last one that was made.
    let (mut index, mut last) = (0i64, None);
    for span in spans {
        index += i64::from(span.offset);
        for _ in 0..span.length {
            let Some(count) = counts.next() else { return (out, sums) };
            // The bucket of index i ends at the base to the power of i, and the end belongs to it.
            let target = ((index - 1) >> levels) + 1;
            index += 1;
            match (last, out.last_mut(), sums.last_mut()) {
                (Some(before), _, Some(sum)) if before == target => *sum = add(*sum, count),
                (Some(before), Some(span), _) if before + 1 == target => {
                    span.length += 1;
                    sums.push(count);
                }
                (before, ..) => {
                    // What fits 32 bits does so when it is divided.
                    let offset = target - before.map_or(0, |before: i64| before + 1);
                    out.push(Span { offset: offset as i32, length: 1 });
                    sums.push(count);
                }
            }
            last = Some(target);
        }
    }
    (out, sums)
}
