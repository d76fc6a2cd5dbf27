//! How long to wait before trying again: exponential, with full jitter, as in "Exponential Backoff And Jitter" (AWS, 2015).

use std::time::Duration;

/// A sequence of pauses. The random numbers come from a seed, so that a test can repeat them.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempt: u32,
    random: u64,
}

impl Backoff {
    /// Pauses between zero and a bound that begins at `first`, doubles, and ends at `most`.
    pub fn new(first: Duration, most: Duration, seed: u64) -> Self {
        Backoff { first, most, attempt: 0, random: seed | 1 }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let bound = self.first.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.most);
        self.attempt = self.attempt.saturating_add(1);
        // xorshift64*, Vigna 2016: enough to spread retries.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let unit = (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        bound.mul_f64(unit)
    }

    /// How often it was tried since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_bound_and_differ() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(first, most, 7);
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.pause()).collect();
        for (n, pause) in pauses.iter().enumerate() {
            assert!(*pause <= first.saturating_mul(1 << n.min(20)).min(most), "pause {n}");
        }
        assert!(pauses[10..].iter().any(|p| *p > most / 2) && pauses[10..].iter().any(|p| *p < most / 2));
        backoff.reset();
        assert!(backoff.pause() <= first);
    }
}
