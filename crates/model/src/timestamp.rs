//! Times as parameters of requests have them, with Prometheus' words for what is wrong with them. Nothing here reads a clock.
//!
//! Times are kept a factor of four inside the range of 64 bits, so that offsets and ranges can be added to them without a check; that is
//! 70 million years, and the price is that times beyond it are moved to its edge.

use std::fmt::Write as _;

/// The last time that a query can name, and with a minus the first. The largest duration that the language knows is 292 years.
const TIME_MAX_MS: i64 = i64::MAX / 4;

/// The texts by which Prometheus' client libraries name the ends of time.
const TIME_FIRST: &str = "-292273086-05-16T16:47:06Z";
const TIME_LAST: &str = "292277025-08-18T07:12:54.999999999Z";

const DAY_MS: i64 = 86_400_000;

/// Reads a time: seconds since the epoch with a fraction, or RFC 3339. Returns milliseconds; the error says what is wrong.
pub fn parse_ms(text: &str) -> Result<i64, String> {
    // A number that is too large for a float is none in Prometheus; infinity has to be named.
    let is_read =
        |seconds: &f64| seconds.is_finite() || (seconds.is_infinite() && !text.contains(|c: char| c.is_ascii_digit()));
    if let Some(seconds) = text.parse::<f64>().ok().filter(is_read) {
        // Rounded to the millisecond as Prometheus rounds, the whole seconds apart from the rest.
        let whole = seconds.trunc();
        let ms = (whole as i64).saturating_mul(1000).saturating_add(((seconds - whole) * 1000.0).round() as i64);
        return Ok(ms.clamp(-TIME_MAX_MS, TIME_MAX_MS));
    }
    match text {
        TIME_FIRST => Ok(-TIME_MAX_MS),
        TIME_LAST => Ok(TIME_MAX_MS),
        _ => parse_rfc3339_ms(text).ok_or_else(|| format!("cannot parse {text:?} to a valid timestamp")),
    }
}

fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let is = |at: usize, expect: u8| text.as_bytes().get(at) == Some(&expect);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let month_ok = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    if !month_ok || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ms, zone) = parse_fraction_ms(text.get(19..)?)?;
    let offset_ms = parse_zone_ms(zone)?;
    let ms = days_from_epoch(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000;
    Some(ms + fraction_ms - offset_ms)
}

fn parse_fraction_ms(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return None;
    }
    let ms = rest.bytes().take(length).chain([b'0'; 3]).take(3).fold(0, |ms, b| ms * 10 + i64::from(b - b'0'));
    Some((ms, &rest[length..]))
}

fn parse_zone_ms(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let bytes = zone.as_bytes();
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let number = |from: usize| -> Option<i64> {
        let digits = zone.get(from..from + 2)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(1)?, number(4)?);
    (hours <= 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a day in the Gregorian calendar; years are counted from March, so that the leap day is the last.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes a time as RFC 3339 in UTC.
pub fn format_rfc3339(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(DAY_MS) + 719_468, ms.rem_euclid(DAY_MS));
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) =
        (day_of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if rest % 1000 != 0 {
        let _ = write!(text, ".{:03}", rest % 1000);
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_notations() {
        for (text, ms) in [
            ("0", 0),
            ("-1.5", -1500),
            ("1435781451.781", 1_435_781_451_781),
            ("1e9", 1_000_000_000_000),
            ("864000000", 864_000_000_000),
            ("0.0004", 0),
            ("-0.0016", -2),
            ("1970-01-01T00:00:00Z", 0),
            ("2015-07-01T20:10:51.781Z", 1_435_781_451_781),
            ("2015-07-01T22:10:51.781999+02:00", 1_435_781_451_781),
            ("1969-12-31T23:59:59.5Z", -500),
            ("2024-02-29T00:00:00-01:30", 1_709_170_200_000),
            ("1e300", TIME_MAX_MS),
            ("-Inf", -TIME_MAX_MS),
            (TIME_FIRST, -TIME_MAX_MS),
            (TIME_LAST, TIME_MAX_MS),
        ] {
            assert_eq!(parse_ms(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "x",
            "NaN",
            "-nan",
            "1e400",
            "2023-02-29T00:00:00Z",
            "2015-07-01",
            "2015-07-01T20:10:51",
            "2015-07-01T24:00:00Z",
            "2015-07-01 20:10:51Z",
            "2015-13-01T20:10:51Z",
            "2015-07-01T20:10:51.Z",
            "2015-07-01T20:10:51+0200",
            "é015-07-01T20:10:51Z",
        ] {
            assert_eq!(parse_ms(text), Err(format!("cannot parse {text:?} to a valid timestamp")));
        }
    }

    #[test]
    fn times_are_written_as_they_are_read() {
        for text in
            ["1970-01-01T00:00:00Z", "2024-02-29T23:59:59.007Z", "1969-12-31T23:59:59.500Z", "2100-03-01T00:00:00Z"]
        {
            assert_eq!(parse_ms(text).map(format_rfc3339), Ok(text.to_owned()));
        }
    }
}
