//! Where buckets begin and end.

use super::{FloatHistogram, Side};

/// A bucket with its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether the upper bound does.
    pub upper_inclusive: bool,
    /// Number of observations.
    pub count: f64,
}

/// Bounds from 0.5 to 1 for each schema from 0 on: as many as two to the schema. Made as Prometheus made its table, so that they are the same to the last
/// bit: every other one is that of the schema before, and the others are the one before them times the root.
static BOUNDS: [[f64; 256]; 9] = {
    const ROOTS: [f64; 9] = [
        2.0,
        // One bit less than it should be, as in that table.
        std::f64::consts::SQRT_2.next_down(),
        1.189_207_115_002_721,
        1.090_507_732_665_257_7,
        1.044_273_782_427_413_8,
        1.021_897_148_654_116_6,
        1.010_889_286_051_700_5,
        1.005_429_901_112_802_7,
        1.002_711_275_050_202_5,
    ];
    let mut table = [[0.5; 256]; 9];
    let mut schema = 1;
    while schema < 9 {
        let mut at = 1;
        while at < 1 << schema {
            table[schema][at] =
                if at % 2 == 0 { table[schema - 1][at / 2] } else { table[schema][at - 1] * ROOTS[schema] };
            at += 1;
        }
        schema += 1;
    }
    table
};

/// The upper bound of the positive bucket of an index.
pub(super) fn exponential(index: i32, schema: i32) -> f64 {
    let (fraction, exponent) = match usize::try_from(schema) {
        Ok(schema) => {
            let schema = schema.min(8);
            (BOUNDS[schema][index as usize & ((1 << schema) - 1)], i64::from(index >> schema) + 1)
        }
        Err(_) => (0.5, (i64::from(index) << schema.unsigned_abs().min(16)) + 1),
    };
    // The bucket of the largest numbers ends with these, and the one beyond it has the infinities.
    if fraction == 0.5 && exponent == 1025 {
        return f64::MAX;
    }
    scaled(fraction, exponent)
}

/// A fraction from 0.5 to 1 times two to the exponent.
fn scaled(fraction: f64, exponent: i64) -> f64 {
    if exponent > 1025 {
        return f64::INFINITY;
    }
    if exponent < -1080 {
        return 0.0;
    }
    // In two steps, since a factor alone would overflow or be rounded where the product is not.
    let half = (exponent / 2) as i32;
    fraction * 2f64.powi(half) * 2f64.powi(exponent as i32 - half)
}

impl FloatHistogram {
    pub(super) fn bound(&self, index: i32) -> f64 {
        if !self.is_custom() {
            return exponential(index, self.schema);
        }
        match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(index) => self.custom.get(index).copied().unwrap_or(f64::INFINITY),
        }
    }

    pub(super) fn positive_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (self.bound(index.wrapping_sub(1)), self.bound(index));
        let (lower_inclusive, upper_inclusive) =
            if self.is_custom() { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count }
    }

    pub(super) fn negative_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (-self.bound(index), -self.bound(index.wrapping_sub(1)));
        Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
    }

    pub(super) fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero,
        }
    }

    /// All buckets from the lowest to the highest, those around zero cut where the zero bucket begins. Empty ones are among them, but for an empty zero bucket.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        let negative = self.negative.iter().rev().map(|bucket| self.cut(self.negative_bucket(bucket)));
        let zero = (self.zero > 0.0).then(|| self.zero_bucket());
        let positive = self.positive.iter().map(|bucket| self.cut(self.positive_bucket(bucket)));
        negative.chain(zero).chain(positive)
    }

    /// As [`FloatHistogram::buckets`], from the highest to the lowest.
    pub(super) fn buckets_down(&self) -> impl Iterator<Item = Bucket> + '_ {
        let positive = self.positive.iter().rev().map(|bucket| self.cut(self.positive_bucket(bucket)));
        let zero = (self.zero > 0.0).then(|| self.zero_bucket());
        let negative = self.negative.iter().map(|bucket| self.cut(self.negative_bucket(bucket)));
        positive.chain(zero).chain(negative)
    }

    fn cut(&self, mut bucket: Bucket) -> Bucket {
        let threshold = self.zero_threshold;
        if bucket.upper < 0.0 && bucket.upper > -threshold {
            bucket.upper = -threshold;
        } else if bucket.lower > 0.0 && bucket.lower < threshold {
            bucket.lower = threshold;
        }
        bucket
    }

    /// Whether there are positive and negative buckets at all.
    pub(super) fn sides(&self) -> (bool, bool) {
        let any = |side: &Side| !side.counts.is_empty();
        (any(&self.positive), any(&self.negative))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_prometheus() {
        // Of its table: a root, one that is made of others, and the last.
        assert_eq!(exponential(1, 1), 2.0 * 0.707_106_781_186_547_5);
        assert_eq!(exponential(7, 3), 2.0 * 0.917_004_043_204_671_1);
        assert_eq!(exponential(255, 8), 2.0 * 0.997_296_056_085_469_8);
        assert_eq!((exponential(0, 0), exponential(3, 0), exponential(-2, 0)), (1.0, 8.0, 0.25));
        assert_eq!((exponential(1, -2), exponential(0, -4), exponential(-1, -1)), (16.0, 1.0, 0.25));
        assert_eq!((exponential(1024, 0), exponential(1025, 0)), (f64::MAX, f64::INFINITY));
        assert_eq!((exponential(64, -4), exponential(65, -4)), (f64::MAX, f64::INFINITY));
        assert_eq!((exponential(-1074, 0), exponential(-1075, 0)), (f64::from_bits(1), 0.0));
        assert_eq!((exponential(i32::MIN, 0), exponential(i32::MAX, -4)), (0.0, f64::INFINITY));
    }
}
