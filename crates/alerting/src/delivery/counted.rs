//! Attempts at delivery, counted by channel and outcome.
//!
//! Channels are the users' objects, so as a label they are bounded: those that come when the bound is reached share one value, as do those that rules
//! name and that are not there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::IntCounterVec;

/// Channels that are counted apart, with five series each. Teams of a cluster have some tens.
pub(crate) const CHANNELS_MAX: usize = 200;
/// What counts for all others; a channel of a file that has this name is one of them.
const OTHER: &str = "other";
/// What may become of an attempt.
const OUTCOMES: [&str; 5] = ["delivered", "retried", "refused", "expired", "skipped"];

/// The counters; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    attempts: IntCounterVec,
    channels: Arc<Mutex<BTreeSet<String>>>,
}

impl Counted {
    /// Counts with these labels: channel, outcome.
    pub(crate) fn new(attempts: IntCounterVec) -> Self {
        let this = Counted { attempts, channels: Arc::default() };
        this.begin(OTHER);
        this
    }

    /// Takes the channels that there are: those that are new begin at zero, the series of those that are gone go.
    pub(crate) fn set<'a>(&self, there: impl Iterator<Item = &'a String>) {
        let there: BTreeSet<&String> = there.collect();
        let mut channels = self.channels();
        channels.retain(|channel| {
            let stays = there.contains(channel);
            if !stays {
                for outcome in OUTCOMES {
                    // Each is there since the channel came.
                    let _ = self.attempts.remove_label_values(&[channel, outcome]);
                }
            }
            stays
        });
        for channel in there {
            if channels.len() < CHANNELS_MAX && channel != OTHER && !channels.contains(channel) {
                self.begin(channel);
                channels.insert(channel.clone());
            }
        }
    }

    /// Counts an attempt.
    pub(crate) fn count(&self, channel: &str, outcome: &str) {
        // Held while it is counted, so that a channel that goes meanwhile does not come back.
        let channels = self.channels();
        let channel = if channels.contains(channel) { channel } else { OTHER };
        self.attempts.with_label_values(&[channel, outcome]).inc();
    }

    fn begin(&self, channel: &str) {
        for outcome in OUTCOMES {
            self.attempts.with_label_values(&[channel, outcome]);
        }
    }

    fn channels(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A thread that panicked left at most a channel that counts as another.
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use prometheus::core::Collector;

    use super::*;

    fn counted() -> Counted {
        let opts = Opts::new("deliveries_total", "Attempts.");
        Counted::new(IntCounterVec::new(opts, &["channel", "outcome"]).expect("valid"))
    }

    /// The series of a channel that are not zero, and how many it has.
    fn series(counted: &Counted, channel: &str) -> (Vec<(String, f64)>, usize) {
        let families = counted.attempts.collect();
        let of = families[0].get_metric().iter().filter(|m| m.get_label()[0].value() == channel);
        let all: Vec<(String, f64)> =
            of.map(|m| (m.get_label()[1].value().to_owned(), m.get_counter().get_value())).collect();
        (all.iter().filter(|(_, value)| *value > 0.0).cloned().collect(), all.len())
    }

    #[test]
    fn a_channel_has_every_outcome_from_its_beginning_and_none_after_its_end() {
        let counted = counted();
        let (a, b) = ("team/a".to_owned(), "team/b".to_owned());
        counted.set([&a, &b].into_iter());
        assert_eq!(series(&counted, "team/a"), (vec![], 5));
        counted.count("team/a", "retried");
        counted.set([&b, &a].into_iter());
        assert_eq!(series(&counted, "team/a"), (vec![("retried".to_owned(), 1.0)], 5), "it goes on");
        counted.set([&b].into_iter());
        assert_eq!((series(&counted, "team/a").1, series(&counted, "team/b").1), (0, 5));
        counted.count("team/a", "delivered");
        assert_eq!(series(&counted, "team/a").1, 0, "what was under way does not bring it back");
        assert_eq!(series(&counted, "other"), (vec![("delivered".to_owned(), 1.0)], 5));
    }

    #[test]
    fn channels_beyond_the_bound_count_as_other_until_there_is_room() {
        let counted = counted();
        let first: Vec<String> = (0..CHANNELS_MAX).map(|n| format!("team/m-{n:04}")).collect();
        counted.set(first.iter());
        // Before the others by name, but later.
        let late = "team/a".to_owned();
        counted.set(first.iter().chain([&late]));
        counted.count(&late, "delivered");
        assert_eq!((series(&counted, &late).1, series(&counted, &first[0]).1), (0, 5));
        assert_eq!(series(&counted, "other").0, [("delivered".to_owned(), 1.0)]);
        counted.set(first[1..].iter().chain([&late]));
        assert_eq!(series(&counted, &late), (vec![], 5));
    }
}
