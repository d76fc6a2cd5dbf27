//! Durations, numbers and limits as parameters have them, with Prometheus' words for what is wrong with them. Times are in
//! [`model::timestamp`].

/// Reads a duration: a number of seconds, or Prometheus' notation. Returns milliseconds, the rest cut off.
pub(crate) fn parse_duration_ms(text: &str) -> Result<i64, String> {
    Ok(parse_duration_ns(text)? / 1_000_000)
}

/// As [`parse_duration_ms`], in nanoseconds, which Prometheus counts in.
pub(crate) fn parse_duration_ns(text: &str) -> Result<i64, String> {
    // 2^63, which 64 bits with a sign do not hold.
    const NS_MAX: f64 = 9_223_372_036_854_775_808.0;
    if let Some(seconds) = parse_float(text) {
        let ns = seconds * 1e9;
        return match (-NS_MAX..NS_MAX).contains(&ns) {
            true => Ok(ns as i64),
            // NaN too, which is in no range.
            false => Err(format!("cannot parse {text:?} to a valid duration. It overflows int64")),
        };
    }
    let ms = model::time::parse_duration_ms(text).ok();
    ms.and_then(|ms| ms.checked_mul(1_000_000)).ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

/// Writes nanoseconds as Go writes a duration: `1m30s`, `-1.5ms`.
pub(crate) fn go_duration(ns: i64) -> String {
    let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let of = |n: u64, unit: u64, digits: usize| {
        let text = format!("{}.{:0digits$}", n / unit, n % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let (minutes, seconds) = (ns / 60_000_000_000, of(ns % 60_000_000_000, 1_000_000_000, 9));
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{ns}ns"),
        1_000..1_000_000 => format!("{sign}{}µs", of(ns, 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", of(ns, 1_000_000, 6)),
        _ if minutes == 0 => format!("{sign}{seconds}s"),
        _ if minutes < 60 => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{}h{}m{seconds}s", minutes / 60, minutes % 60),
    }
}

/// Reads a number as Go does: `Inf` with a sign and `NaN` without, in any case. Others that are too large are none.
pub(crate) fn parse_float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let is_word = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_read = match (value.is_nan(), value.is_infinite()) {
        (true, _) => is_word(text),
        (_, true) => is_word(text.trim_start_matches(['+', '-'])),
        _ => true,
    };
    is_read.then_some(value)
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
        for text in ["NaN", "nan", "1e300", "-Inf", "9223372036.854775808"] {
            let error = format!("cannot parse {text:?} to a valid duration. It overflows int64");
            assert_eq!(parse_duration_ms(text), Err(error));
        }
        // Go reads none of them as a number.
        for text in ["+NaN", "1e400", "-1e400", "", "300y"] {
            let error = format!("cannot parse {text:?} to a valid duration");
            assert_eq!(parse_duration_ms(text), Err(error));
        }
        assert_eq!(parse_duration_ns("-9223372036.854775808"), Ok(i64::MIN));
        assert_eq!(parse_duration_ns("1e-9"), Ok(1));
        // As nanoseconds it is a little less.
        assert_eq!(parse_duration_ms("1.001"), Ok(1000));
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (ns, text) in [
            (0, "0s"),
            (-1, "-1ns"),
            (1_500, "1.5µs"),
            (-500_000_000, "-500ms"),
            (-1_000_000_000, "-1s"),
            (1_250_000_000, "1.25s"),
            (-90_000_000_000, "-1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(go_duration(ns), text);
        }
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
