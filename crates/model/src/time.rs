//! Times and durations as the field writes them. Nothing here reads a clock.

use std::fmt::Write as _;

/// An inclusive range of times in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// First time that is in.
    pub start_ms: i64,
    /// Last time that is in.
    pub end_ms: i64,
}

impl TimeRange {
    /// Every time there is.
    pub const ALL: TimeRange = TimeRange { start_ms: i64::MIN, end_ms: i64::MAX };

    /// The same times as these ranges, ascending, those that meet as one.
    pub fn apart(mut ranges: Vec<TimeRange>) -> Vec<TimeRange> {
        ranges.sort_unstable_by_key(|range| range.start_ms);
        let mut out: Vec<TimeRange> = Vec::new();
        for range in ranges {
            match out.last_mut() {
                Some(last) if range.start_ms <= last.end_ms.saturating_add(1) => {
                    last.end_ms = last.end_ms.max(range.end_ms);
                }
                _ => out.push(range),
            }
        }
        out
    }

    /// Whether a time is in the range.
    pub fn contains(&self, t: i64) -> bool {
        self.start_ms <= t && t <= self.end_ms
    }

    /// Whether two ranges share a time.
    pub fn overlaps(&self, other: &TimeRange) -> bool {
        self.start_ms <= other.end_ms && other.start_ms <= self.end_ms
    }
}

/// Year, month and day of a day since 1970 in the Gregorian calendar, counted in years that begin in March, so that the leap day is last.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let era = shifted.div_euclid(146_097); // 400 years
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A duration that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not of the form `1h30m`.
    #[error("not a valid duration string: {0:?}")]
    Syntax(String),
    /// More than fits.
    #[error("duration out of range: {0:?}")]
    OutOfRange(String),
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads how long something is kept: a duration as [`parse_duration_ms`] does, longer than 0, or `off`, which is `None`. The error is one line.
pub fn parse_age_ms(text: &str) -> Result<Option<i64>, String> {
    if text == "off" {
        return Ok(None);
    }
    match parse_duration_ms(text) {
        Ok(0) => Err("must be longer than 0, or off".to_owned()),
        Ok(ms) => Ok(Some(ms)),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a duration in Prometheus' notation, units from large to small, each once: `1d12h`, `90s`, `0`.
/// Returns milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<i64, InvalidDuration> {
    let syntax = || InvalidDuration::Syntax(text.to_owned());
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err(syntax());
    }
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0usize);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        if digits == 0 || letters == 0 {
            return Err(syntax());
        }
        let unit = &rest[digits..digits + letters];
        let at = UNITS.iter().position(|(name, _)| *name == unit).filter(|at| *at >= next_unit).ok_or_else(syntax)?;
        let count: i64 = rest[..digits].parse().map_err(|_| InvalidDuration::OutOfRange(text.to_owned()))?;
        total = count
            .checked_mul(UNITS[at].1)
            .and_then(|ms| total.checked_add(ms))
            .ok_or_else(|| InvalidDuration::OutOfRange(text.to_owned()))?;
        next_unit = at + 1;
        rest = &rest[digits + letters..];
    }
    Ok(total)
}

/// Writes a duration as Prometheus does: `1h30m`, `0s`; years and weeks only where they divide it.
pub fn format_duration_ms(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (name, unit) in UNITS {
        let unit = unit.unsigned_abs();
        if matches!(name, "y" | "w") && !rest.is_multiple_of(unit) {
            continue;
        }
        if rest / unit > 0 {
            let _ = write!(out, "{}{name}", rest / unit);
            rest %= unit;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_prometheus_does() {
        for (text, ms) in [("0", 0), ("5m", 300_000), ("1h30m", 5_400_000), ("1w2d", 777_600_000), ("10ms", 10)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for (ms, text) in
            [(0, "0s"), (5_400_000, "1h30m"), (86_400_000 * 7, "1w"), (86_400_000 * 8, "8d"), (-1500, "-1s500ms")]
        {
            assert_eq!(format_duration_ms(ms), text);
        }
        for text in ["", "5", "m", "5x", "5m1h", "1s1s", "1.5h", "-5m", " 5m", "5M"] {
            assert!(matches!(parse_duration_ms(text), Err(InvalidDuration::Syntax(_))), "{text}");
        }
        assert!(matches!(parse_duration_ms("99999999999999999y"), Err(InvalidDuration::OutOfRange(_))));
        assert!(matches!(parse_duration_ms("999999999999y"), Err(InvalidDuration::OutOfRange(_))));
    }
}
