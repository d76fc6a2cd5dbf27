//! Summation that carries what rounding loses, as Neumaier improved it on Kahan. Where Prometheus sums this way its
//! results depend on it to the last bit, so the order of operations is part of the contract.

/// A sum and what it lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    /// The rounded sum.
    pub(crate) sum: f64,
    /// The compensation.
    pub(crate) c: f64,
}

impl Sum {
    /// Starts at a value.
    pub(crate) fn at(value: f64) -> Self {
        Sum { sum: value, c: 0.0 }
    }

    /// Adds a value.
    #[inline]
    pub(crate) fn add(self, value: f64) -> Self {
        let sum = self.sum + value;
        let c = if sum.is_infinite() {
            0.0
        } else if self.sum.abs() >= value.abs() {
            self.c + ((self.sum - sum) + value)
        } else {
            self.c + ((value - sum) + self.sum)
        };
        Sum { sum, c }
    }

    /// The sum with the compensation.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        self.sum + self.c
    }
}

/// A mean that is a sum over a count until the sum overflows, and a running mean from there on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mean {
    sum: Sum,
    count: f64,
    running: bool,
}

impl Mean {
    /// Starts with the first value.
    pub(crate) fn at(value: f64) -> Self {
        Mean { sum: Sum::at(value), count: 1.0, running: false }
    }

    /// Takes one more value in.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.running {
            let next = self.sum.add(value);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.running = true;
            let before = self.count - 1.0;
            self.sum = Sum { sum: self.sum.sum / before, c: self.sum.c / before };
        }
        let q = (self.count - 1.0) / self.count;
        self.sum = Sum { sum: q * self.sum.sum, c: q * self.sum.c }.add(value / self.count);
    }

    /// The mean.
    pub(crate) fn value(self) -> f64 {
        self.value_of(self.count)
    }

    /// The mean of so many values, of which some were added as their sum. There are more than were added only where no sum overflows.
    pub(crate) fn value_of(self, count: f64) -> f64 {
        if self.running { self.sum.total() } else { self.sum.sum / count + self.sum.c / count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_rounding_loses() {
        let sum = [1.0, 1e100, 1.0, -1e100].into_iter().fold(Sum::default(), Sum::add);
        assert_eq!(sum.total(), 2.0);
        let overflow = [f64::MAX, f64::MAX].into_iter().fold(Sum::default(), Sum::add);
        assert_eq!(overflow.total(), f64::INFINITY);
    }

    #[test]
    fn a_mean_survives_the_overflow_of_its_sum() {
        let mut mean = Mean::at(f64::MAX);
        mean.add(f64::MAX);
        mean.add(f64::MAX);
        // To the bit what Prometheus 3.16 answers to avg() of these three: a third of each is rounded before it is added.
        assert_eq!(mean.value(), 1.797_693_134_862_315_5e308);
    }
}
