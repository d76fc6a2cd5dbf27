//! One measured value at one time.

/// The bits of the NaN that marks the end of a series, as Prometheus writes it.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// A value at a time. Equality is that of the bits, so that NaN equals itself.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Milliseconds since the Unix epoch.
    pub t: i64,
    /// The value; any bit pattern, each kept as it came.
    pub v: f64,
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.t == other.t && self.v.to_bits() == other.v.to_bits()
    }
}

/// Whether a value is the marker of staleness, which differs from every other NaN.
#[inline]
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// The marker of staleness.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}
