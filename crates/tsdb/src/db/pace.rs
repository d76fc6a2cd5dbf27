//! How often blocks are written to a span. As long as more of them come they are merged a few times only; once it is quiet, until few are left.
//!
//! What is quiet is told by what was seen since the engine was opened: whoever writes every half an hour is not quiet for twenty minutes, and whoever wrote
//! every few seconds is after one. The price is that nothing is merged for its quiet in the first minute after a start.

use std::collections::BTreeMap;

use model::TimeRange;

/// Nothing is quiet for less than this.
const QUIET_MS: i64 = 60_000;
/// And for less than so many times as long as what passed between the last flushes.
const PAUSES: i64 = 2;

/// What can be expected of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// More blocks.
    Written,
    /// None, for now.
    Quiet,
    /// None, but for what comes late: its time is over too.
    Over,
}

/// When blocks were written, in Unix milliseconds.
#[derive(Debug, Default)]
pub(super) struct Paces {
    /// When it was told a time first.
    began_ms: Option<i64>,
    last_ms: Option<i64>,
    /// What passes between flushes: that between the last two, and at least half of what it was before.
    pause_ms: i64,
    /// The last block of each span, by its first and last time.
    last_of: BTreeMap<(i64, i64), i64>,
}

impl Paces {
    /// Tells the time, which does not go back.
    pub(super) fn tell(&mut self, now_ms: i64) {
        self.began_ms.get_or_insert(now_ms);
    }

    /// Notes that blocks of these spans were written. Before a time is known it is as if that were when it is.
    pub(super) fn wrote(&mut self, now_ms: Option<i64>, spans: impl Iterator<Item = TimeRange>) {
        let (Some(now_ms), Some(began_ms)) = (now_ms, self.began_ms) else { return };
        let mut spans = spans.peekable();
        if spans.peek().is_none() {
            return;
        }
        self.last_of.extend(spans.map(|span| ((span.start_ms, span.end_ms), now_ms)));
        let pause_ms = now_ms.saturating_sub(self.last_ms.replace(now_ms).unwrap_or(began_ms));
        self.pause_ms = pause_ms.max(self.pause_ms / 2);
    }

    /// Forgets spans that have no block any more.
    pub(super) fn keep(&mut self, has_block: impl Fn(TimeRange) -> bool) {
        self.last_of.retain(|(start_ms, end_ms), _| has_block(TimeRange { start_ms: *start_ms, end_ms: *end_ms }));
    }

    /// What can be expected of a span.
    pub(super) fn of(&self, span: TimeRange, now_ms: Option<i64>) -> Pace {
        let (Some(now_ms), Some(began_ms)) = (now_ms, self.began_ms) else { return Pace::Written };
        let last_ms = self.last_of.get(&(span.start_ms, span.end_ms)).copied().unwrap_or(began_ms);
        let quiet_ms = self.pause_ms.saturating_mul(PAUSES).max(QUIET_MS);
        match now_ms.saturating_sub(last_ms) >= quiet_ms {
            false => Pace::Written,
            true if span.end_ms < now_ms => Pace::Over,
            true => Pace::Quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn span(day: i64) -> TimeRange {
        TimeRange { start_ms: day * 1440 * MINUTE, end_ms: (day + 1) * 1440 * MINUTE - 1 }
    }

    #[test]
    fn what_is_written_every_half_an_hour_is_quiet_after_an_hour() {
        let mut paces = Paces::default();
        assert_eq!(paces.of(span(0), Some(span(9).start_ms)), Pace::Written, "no time was told");
        let day = span(1).start_ms;
        paces.tell(day);
        let at = |minute| Some(day + minute * MINUTE);
        assert_eq!(paces.of(span(1), at(0)), Pace::Written);
        assert_eq!(paces.of(span(1), at(1)), Pace::Quiet, "what was there at the start");
        assert_eq!(paces.of(span(0), at(1)), Pace::Over);
        paces.wrote(at(30), [span(1)].into_iter());
        assert_eq!([59, 89, 90].map(|m| paces.of(span(1), at(m))), [Pace::Written, Pace::Written, Pace::Quiet]);
        paces.wrote(at(60), [span(0), span(1)].into_iter());
        // One that comes soon, as where the head was full, changes half of it.
        paces.wrote(at(61), [span(1)].into_iter());
        assert_eq!([90, 91].map(|m| paces.of(span(1), at(m))), [Pace::Written, Pace::Quiet]);
        assert_eq!([89, 90].map(|m| paces.of(span(0), at(m))), [Pace::Written, Pace::Over]);
        paces.keep(|of| of == span(1));
        assert_eq!(paces.of(span(0), at(62)), Pace::Over, "nothing is known of it but the start");
    }

    #[test]
    fn what_was_written_every_few_seconds_is_quiet_after_a_minute_and_a_flush_of_nothing_is_no_write() {
        let mut paces = Paces::default();
        paces.tell(0);
        for second in [5, 10, 15] {
            paces.wrote(Some(second * 1000), [span(0)].into_iter());
        }
        assert_eq!(paces.of(span(0), Some(74_999)), Pace::Written);
        assert_eq!(paces.of(span(0), Some(75_000)), Pace::Quiet);
        paces.wrote(Some(50 * MINUTE), [].into_iter());
        assert_eq!(paces.of(span(0), Some(75_000)), Pace::Quiet);
    }
}
