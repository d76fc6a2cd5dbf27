//! What a float stands for beside itself, where samples were left out to save room: how many, and their sum.
//!
//! Samples are left out window by window, and those that stay are samples as they came. So whatever reads samples reads these too, and only who adds up or
//! counts has to look here.

/// What one float stands for beside itself: samples between it and the next one of its series, all of the same window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Aggregate {
    /// How many samples are left out, none of them a staleness marker.
    pub count: u32,
    /// Length of the window in milliseconds; 0 where nothing was left out of it on purpose.
    pub resolution_ms: u32,
    /// The sum of those that are left out.
    pub sum: f64,
}

impl Aggregate {
    /// Of a sample in whose window nothing was left out.
    pub const RAW: Aggregate = Aggregate { count: 0, resolution_ms: 0, sum: 0.0 };

    /// Whether it is of a window of which samples may have been left out.
    pub fn is_of_window(&self) -> bool {
        self.resolution_ms > 0
    }

    /// The last time of the window that a sample with this is in. Windows end at multiples of their length, and their first time is a millisecond
    /// after that of the end before, as ranges of the query language are.
    pub fn window_end(&self, t: i64) -> i64 {
        let length = i64::from(self.resolution_ms).max(1);
        let number = t.div_euclid(length) + i64::from(t.rem_euclid(length) > 0);
        number.saturating_mul(length)
    }

    /// Of two of the same sample, that of the shorter windows: what the other leaves out may be there. Of equal ones this one.
    pub fn finer(self, other: Aggregate) -> Aggregate {
        match (self.resolution_ms, other.resolution_ms) {
            (0, _) => other,
            (_, 0) => self,
            (own, others) => {
                if others < own {
                    other
                } else {
                    self
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_at_multiples_of_their_length() {
        let of_five = Aggregate { resolution_ms: 5, ..Aggregate::RAW };
        for (t, end) in [(-5, -5), (-4, 0), (0, 0), (1, 5), (4, 5), (5, 5), (6, 10)] {
            assert_eq!(of_five.window_end(t), end, "{t}");
        }
        let all = Aggregate { resolution_ms: u32::MAX, ..Aggregate::RAW };
        assert_eq!(all.window_end(i64::MAX), i64::MAX);
        assert!(all.window_end(i64::MIN) < 0);
    }

    #[test]
    fn of_two_the_shorter_window_counts_and_none_is_the_longest() {
        let of = |resolution_ms| Aggregate { count: resolution_ms, resolution_ms, sum: 1.0 };
        assert_eq!(of(5).finer(of(60)), of(5));
        assert_eq!(of(60).finer(of(5)), of(5));
        assert_eq!(of(0).finer(of(5)), of(5));
        assert_eq!(of(5).finer(of(0)), of(5));
        let other = Aggregate { count: 9, ..of(5) };
        assert_eq!(of(5).finer(other), of(5));
    }
}
