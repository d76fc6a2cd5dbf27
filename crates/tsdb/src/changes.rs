//! When what is stored of which times last changed, so that an answer that was worked out before can be told from one that still holds.
//!
//! Every change has a version, which ascends. Of each minute of samples it is kept which version changed it last, by the names of metrics: these are spread over
//! some slots by their hash, so a change of one name is sometimes taken for one of another, and never overlooked. What concerns many minutes at once is kept as
//! a span, of all names. There is a bound; what goes first is what changed longest ago, and who asks since before that is told that all may have changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::{LabelsRef, Samples, TimeRange};
use xxhash_rust::xxh3::xxh3_64;

/// Slots of names: the bits of a mask.
const SLOTS: usize = 64;
/// Milliseconds of what is told apart.
const MINUTE_MS: i64 = 60_000;
/// Minutes that are told apart, of half a kilobyte each: those that samples came for in a day and a half.
const MINUTES_MAX: usize = 2048;
/// Minutes that one record is told apart by, before it is a span.
const MINUTES_OF_RECORD_MAX: usize = 16;
/// Spans that are told apart.
const SPANS_MAX: usize = 64;

/// What changed since a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The version now. What is read from now on has all changes up to it, and perhaps later ones.
    pub version: u64,
    /// The times of the samples that changed, ascending and apart, within what was asked for.
    pub ranges: Vec<TimeRange>,
}

/// What one record changes.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    minutes: Vec<(i64, u64)>,
    span: Option<TimeRange>,
}

/// The changes since the engine was opened.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    version: u64,
    minutes: BTreeMap<i64, Box<Minute>>,
    spans: Vec<(TimeRange, u64)>,
    /// Before this time nothing is kept any more, since that version.
    expired: Option<(i64, u64)>,
    /// Changes up to this one are not told apart any more.
    forgotten: u64,
}

#[derive(Debug)]
struct Minute {
    by_slot: [u64; SLOTS],
    last: u64,
}

/// The slot of a series' name; every one where it has none, since a selector may then find it by any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u8);

impl Slot {
    /// Bits of the number of one.
    pub(crate) const BITS: u32 = 7;
    const EVERY: Slot = Slot(SLOTS as u8);

    /// That of a series.
    pub(crate) fn of(labels: LabelsRef<'_>) -> Slot {
        labels.get("__name__").map_or(Slot::EVERY, Slot::of_name)
    }

    fn of_name(name: &str) -> Slot {
        Slot((xxh3_64(name.as_bytes()) % SLOTS as u64) as u8)
    }

    /// Its number.
    pub(crate) fn number(self) -> u64 {
        self.0.into()
    }

    /// The one of a number.
    pub(crate) fn numbered(number: u64) -> Slot {
        Slot(number as u8)
    }

    fn mask(self) -> u64 {
        if self == Slot::EVERY { u64::MAX } else { 1 << self.0 }
    }
}

impl Touched {
    /// Notes samples of one series, by the slot of its name.
    pub(crate) fn add(&mut self, slot: Slot, samples: Samples<'_>) {
        let (mut first, mut last) = (i64::MAX, i64::MIN);
        for t in samples.floats.iter().map(|sample| sample.t).chain(samples.histograms.iter().map(|sample| sample.t)) {
            (first, last) = (first.min(t), last.max(t));
        }
        if first > last {
            return;
        }
        let (from, to) = (first.div_euclid(MINUTE_MS), last.div_euclid(MINUTE_MS));
        if to.saturating_sub(from) >= MINUTES_OF_RECORD_MAX as i64 {
            return self.widen(TimeRange { start_ms: first, end_ms: last });
        }
        let mask = slot.mask();
        for minute in from..=to {
            let known = self.minutes.iter().position(|(known, _)| *known == minute);
            match known {
                Some(at) => self.minutes[at].1 |= mask,
                None if self.minutes.len() < MINUTES_OF_RECORD_MAX => self.minutes.push((minute, mask)),
                None => self.widen(of_minute(minute)),
            }
        }
    }

    fn widen(&mut self, range: TimeRange) {
        let span = self.span.get_or_insert(range);
        *span = TimeRange { start_ms: span.start_ms.min(range.start_ms), end_ms: span.end_ms.max(range.end_ms) };
    }
}

fn of_minute(minute: i64) -> TimeRange {
    let start_ms = minute.saturating_mul(MINUTE_MS);
    TimeRange { start_ms, end_ms: start_ms.saturating_add(MINUTE_MS - 1) }
}

impl Changes {
    /// Notes what a record changed, once it is visible.
    pub(crate) fn touch(&self, touched: &Touched) {
        if touched.minutes.is_empty() && touched.span.is_none() {
            return;
        }
        let mut kept = self.lock();
        let version = kept.next();
        for (minute, slots) in &touched.minutes {
            let minute =
                kept.minutes.entry(*minute).or_insert_with(|| Box::new(Minute { by_slot: [0; SLOTS], last: 0 }));
            minute.last = version;
            let mut rest = *slots;
            while rest != 0 {
                minute.by_slot[rest.trailing_zeros() as usize] = version;
                rest &= rest - 1;
            }
        }
        if let Some(span) = touched.span {
            kept.add_span(span, version);
        }
        if kept.minutes.len() > MINUTES_MAX {
            kept.forget_minutes();
        }
    }

    /// Notes that any samples in a range may have changed.
    pub(crate) fn touch_all(&self, range: TimeRange) {
        let mut kept = self.lock();
        let version = kept.next();
        kept.add_span(range, version);
    }

    /// Notes that samples before a time are not kept any more, of some series at least.
    pub(crate) fn expire(&self, floor_ms: i64) {
        let mut kept = self.lock();
        if floor_ms > kept.expired.map_or(i64::MIN, |(known, _)| known) {
            let version = kept.next();
            kept.expired = Some((floor_ms, version));
        }
    }

    /// What of a range changed after a version, of the series of some names, or of all.
    pub(crate) fn since(&self, version: u64, names: Option<&[String]>, range: TimeRange) -> Changed {
        let kept = self.lock();
        let now = kept.version;
        if version < kept.forgotten || version > now {
            return Changed { version: now, ranges: vec![range] };
        }
        if range.start_ms > range.end_ms {
            return Changed { version: now, ranges: Vec::new() };
        }
        let slots =
            names.map_or(u64::MAX, |names| names.iter().fold(0, |slots, name| slots | Slot::of_name(name).mask()));
        let mut ranges = Vec::new();
        let (from, to) = (range.start_ms.div_euclid(MINUTE_MS), range.end_ms.div_euclid(MINUTE_MS));
        for (minute, changes) in kept.minutes.range(from..=to) {
            if changes.last > version && changes.newest(slots) > version {
                ranges.push(of_minute(*minute));
            }
        }
        ranges.extend(kept.spans.iter().filter(|(_, changed)| *changed > version).map(|(span, _)| *span));
        if let Some((floor_ms, _)) = kept.expired.filter(|(_, changed)| *changed > version) {
            ranges.push(TimeRange { start_ms: i64::MIN, end_ms: floor_ms });
        }
        Changed { version: now, ranges: apart(ranges, range) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Minute {
    /// The last version that changed one of these slots.
    fn newest(&self, slots: u64) -> u64 {
        if slots == u64::MAX {
            return self.last;
        }
        let (mut rest, mut newest) = (slots, 0);
        while rest != 0 {
            newest = newest.max(self.by_slot[rest.trailing_zeros() as usize]);
            rest &= rest - 1;
        }
        newest
    }
}

impl Kept {
    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn add_span(&mut self, span: TimeRange, version: u64) {
        self.spans.retain(|(known, _)| !(span.start_ms <= known.start_ms && known.end_ms <= span.end_ms));
        if self.spans.len() >= SPANS_MAX {
            // They are in the order of their versions.
            let (_, oldest) = self.spans.remove(0);
            self.forgotten = self.forgotten.max(oldest);
        }
        self.spans.push((span, version));
    }

    /// Forgets the half of the minutes that changed longest ago.
    fn forget_minutes(&mut self) {
        let mut last: Vec<u64> = self.minutes.values().map(|minute| minute.last).collect();
        let middle = last.len() / 2;
        let (_, bound, _) = last.select_nth_unstable(middle);
        let bound = *bound;
        self.minutes.retain(|_, minute| minute.last > bound);
        self.forgotten = self.forgotten.max(bound);
    }
}

/// The parts of ranges that are within one, ascending, those that meet as one.
fn apart(mut ranges: Vec<TimeRange>, within: TimeRange) -> Vec<TimeRange> {
    ranges.retain_mut(|range| {
        range.start_ms = range.start_ms.max(within.start_ms);
        range.end_ms = range.end_ms.min(within.end_ms);
        range.start_ms <= range.end_ms
    });
    TimeRange::apart(ranges)
}

#[cfg(test)]
mod tests {
    use model::{Labels, Sample};

    use super::*;

    const DAY: TimeRange = TimeRange { start_ms: 0, end_ms: 86_400_000 };

    fn touch(changes: &Changes, name: &str, times: &[i64]) {
        let labels = Labels::new(&[("__name__", name.to_owned())]).expect("valid");
        let samples: Vec<Sample> = times.iter().map(|t| Sample { t: *t, v: 1.0 }).collect();
        let mut touched = Touched::default();
        touched.add(Slot::of(labels.as_ref()), Samples::from(&*samples));
        changes.touch(&touched);
    }

    fn minutes(changes: &Changes, since: u64, names: &[&str]) -> Vec<(i64, i64)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let names = if names.is_empty() { None } else { Some(&*names) };
        let found = changes.since(since, names, DAY).ranges.into_iter();
        found.map(|range| (range.start_ms / MINUTE_MS, (range.end_ms + 1) / MINUTE_MS)).collect()
    }

    fn version(changes: &Changes) -> u64 {
        changes.since(0, None, DAY).version
    }

    #[test]
    fn what_changed_is_told_by_minute_and_name() {
        let changes = Changes::default();
        assert_ne!(Slot::of_name("a"), Slot::of_name("b"));
        touch(&changes, "a", &[30_000]);
        touch(&changes, "a", &[600_000, 659_999]);
        touch(&changes, "b", &[600_000, 660_000]);
        assert_eq!(version(&changes), 3);
        assert_eq!(minutes(&changes, 0, &[]), [(0, 1), (10, 12)]);
        assert_eq!(minutes(&changes, 1, &["a"]), [(10, 11)]);
        assert_eq!(minutes(&changes, 2, &["a"]), []);
        assert_eq!(minutes(&changes, 2, &["b"]), [(10, 12)]);
        assert_eq!(minutes(&changes, 2, &["a", "b"]), [(10, 12)]);
        assert_eq!(minutes(&changes, 3, &[]), []);
        let of = |start_ms, end_ms| changes.since(0, None, TimeRange { start_ms, end_ms }).ranges;
        assert_eq!(
            of(605_000, 610_000),
            [TimeRange { start_ms: 605_000, end_ms: 610_000 }],
            "no more than was asked for"
        );
        assert_eq!(of(60_000, 599_999), []);
    }

    #[test]
    fn a_version_of_another_engine_and_what_is_without_a_name_are_as_if_all_had_changed() {
        let changes = Changes::default();
        assert_eq!(changes.since(1, None, DAY).ranges, [DAY]);
        let mut touched = Touched::default();
        let labels = Labels::new(&[("job", "x".to_owned())]).expect("valid");
        touched.add(Slot::of(labels.as_ref()), Samples::from(&[Sample { t: 0, v: 1.0 }][..]));
        changes.touch(&touched);
        assert_eq!(minutes(&changes, 0, &["a"]), [(0, 1)]);
    }

    #[test]
    fn what_goes_over_many_minutes_is_a_span_of_all_names() {
        let changes = Changes::default();
        touch(&changes, "a", &[0, 3_600_000]);
        assert_eq!(
            changes.since(0, Some(&["b".to_owned()]), DAY).ranges,
            [TimeRange { start_ms: 0, end_ms: 3_600_000 }]
        );
        let mut touched = Touched::default();
        let labels = Labels::new(&[("__name__", "a".to_owned())]).expect("valid");
        for minute in 0..100 {
            touched.add(Slot::of(labels.as_ref()), Samples::from(&[Sample { t: minute * MINUTE_MS, v: 1.0 }][..]));
        }
        assert!(touched.minutes.len() <= MINUTES_OF_RECORD_MAX);
        changes.touch(&touched);
        assert_eq!(minutes(&changes, 1, &["a"]), [(0, 100)]);
        changes.touch_all(TimeRange { start_ms: 7_200_000, end_ms: 7_259_999 });
        assert_eq!(minutes(&changes, 2, &["a"]), [(120, 121)]);
    }

    #[test]
    fn what_expires_has_changed() {
        let changes = Changes::default();
        changes.expire(600_000);
        changes.expire(500_000);
        let version = version(&changes);
        assert_eq!(
            (version, changes.since(0, None, DAY).ranges),
            (1, vec![TimeRange { start_ms: 0, end_ms: 600_000 }])
        );
        changes.expire(660_000);
        assert_eq!(changes.since(version, None, DAY).ranges, [TimeRange { start_ms: 0, end_ms: 660_000 }]);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_what_is_forgotten_has_changed() {
        let changes = Changes::default();
        touch(&changes, "old", &[0]);
        let before = version(&changes);
        for minute in 0..10 * MINUTES_MAX as i64 {
            touch(&changes, "a", &[minute * MINUTE_MS]);
            assert!(changes.lock().minutes.len() <= MINUTES_MAX);
        }
        assert_eq!(changes.since(before, Some(&["old".to_owned()]), DAY).ranges, [DAY]);
        let now = version(&changes);
        assert_eq!(minutes(&changes, now, &[]), []);
        touch(&changes, "a", &[0]);
        assert_eq!(minutes(&changes, now, &[]), [(0, 1)]);
        for n in 0..2 * SPANS_MAX as i64 {
            changes.touch_all(TimeRange { start_ms: n * 100, end_ms: n * 100 + 50 });
        }
        assert_eq!(changes.lock().spans.len(), SPANS_MAX);
        assert_eq!(changes.since(now, None, DAY).ranges, [DAY]);
        changes.touch_all(DAY);
        assert_eq!(changes.lock().spans.len(), 1, "one that holds the others takes their place");
    }
}
