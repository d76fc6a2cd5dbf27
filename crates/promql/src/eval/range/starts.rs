//! When counting of a sample began, and what that says of resets: a counter that began between two samples was reset, however large it has grown since.
//!
//! A start of 0 is not known; one at the time of its sample is what OpenTelemetry sends where it does not know it.

/// A sample's time and the start of its counting, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Since {
    pub(super) t: i64,
    pub(super) start: i64,
}

/// Whether there was a reset between two samples.
pub(super) fn is_reset(before: Since, now: Since) -> bool {
    if before.start == now.start || now.start == 0 || now.start >= now.t {
        return false;
    }
    match now.start.cmp(&before.t) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        // It began with the one before: so do deltas, and counters of which the start is not known.
        std::cmp::Ordering::Equal => before.start <= before.t && before.start != 0 && before.start != before.t,
    }
}

/// Whether there was a reset between a time and a sample.
pub(super) fn is_reset_after(t: i64, now: Since) -> bool {
    now.start > t && now.t > t && is_reset(Since { t, start: t }, now)
}

/// Whether a sample began to be counted before the one before it was taken, and not with that one.
pub(super) fn overlaps(before: Since, now: Since) -> bool {
    now.start != 0 && now.start < before.t && now.start != before.start
}
