//! Durations, numbers and limits as parameters have them, with Prometheus' words for what is wrong with them. Times are in
//! [`model::timestamp`].

/// Reads a duration: a number of seconds, or Prometheus' notation. Returns milliseconds, the rest cut off.
pub(crate) fn parse_duration_ms(text: &str) -> Result<i64, String> {
    // 2^63 nanoseconds, to which Prometheus' durations are limited.
    const SECONDS_MAX: f64 = 9_223_372_036.854_775;
    if let Some(seconds) = parse_float(text).filter(|s| !s.is_nan()) {
        if seconds.abs() > SECONDS_MAX {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok((seconds * 1000.0) as i64);
    }
    model::time::parse_duration_ms(text).map_err(|_| format!("cannot parse {text:?} to a valid duration"))
}

/// Reads a number as Go does: `Inf` and `NaN` in any case, with a sign.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    // Rust reads the same decimal forms; it also takes nothing that Go refuses.
    text.parse().ok()
}

/// Reads `limit`; zero and absence mean none.
pub(crate) fn parse_limit(text: &str) -> Result<Option<usize>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match parse_integer(text)? {
        n if n < 0 => Err("limit must be non-negative".to_owned()),
        0 => Ok(None),
        n => Ok(Some(usize::try_from(n).unwrap_or(usize::MAX))),
    }
}

/// Reads a whole number, with the error of Go's `strconv`, which clients know from Prometheus.
pub(crate) fn parse_integer(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse().map_err(|e: std::num::ParseIntError| {
        let reason =
            if matches!(e.kind(), PosOverflow | NegOverflow) { "value out of range" } else { "invalid syntax" };
        format!("strconv.Atoi: parsing {text:?}: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_with_units() {
        for (text, ms) in [("15", 15_000), ("0.25", 250), ("-1", -1000), ("1m30s", 90_000), ("0", 0), ("0.0001", 0)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        assert_eq!(parse_duration_ms("-1s"), Err("cannot parse \"-1s\" to a valid duration".to_owned()));
        assert_eq!(parse_duration_ms("NaN"), Err("cannot parse \"NaN\" to a valid duration".to_owned()));
        assert_eq!(
            parse_duration_ms("1e300"),
            Err("cannot parse \"1e300\" to a valid duration. It overflows int64".to_owned())
        );
    }

    #[test]
    fn limits_are_whole_numbers_and_zero_means_none() {
        assert_eq!(parse_limit(""), Ok(None));
        assert_eq!(parse_limit("0"), Ok(None));
        assert_eq!(parse_limit("7"), Ok(Some(7)));
        assert_eq!(parse_limit("-1"), Err("limit must be non-negative".to_owned()));
        assert_eq!(parse_limit("x"), Err("strconv.Atoi: parsing \"x\": invalid syntax".to_owned()));
        assert_eq!(
            parse_limit("99999999999999999999"),
            Err("strconv.Atoi: parsing \"99999999999999999999\": value out of range".to_owned())
        );
    }
}
