//! Numbers and strings as Prometheus' JSON has them, straight to bytes.
//!
//! A value in a series is written with the fewest digits that read back as the same number, without exponent between
//! 1e-6 and 1e21; a scalar never has an exponent. A time is in seconds with three decimals or none. These forms are those of
//! Prometheus 3.16, compared byte by byte with the program. Strings come in two forms too: labels of a result are
//! written as they are, other strings with `<`, `>` and `&` escaped.

use std::io::Write as _;

/// Largest whole number whose digits need no search: every integer below is a float of its own.
pub(crate) const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Writes a sample's value, without quotes.
pub(crate) fn write_float(out: &mut Vec<u8>, v: f64) {
    let abs = v.abs();
    if abs != 0.0 && abs.is_finite() && !(1e-6..1e21).contains(&abs) {
        write_exponent(out, v);
    } else {
        write_fixed(out, v);
    }
}

/// Writes a scalar's value, without quotes and without exponent.
pub(crate) fn write_fixed(out: &mut Vec<u8>, v: f64) {
    if v.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if v.is_infinite() {
        out.extend_from_slice(if v > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if v == v.trunc() && v.abs() < EXACT_MAX {
        if v.is_sign_negative() {
            out.push(b'-');
        }
        write_integer(out, v.abs() as u64);
    } else {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{v}");
    }
}

/// Writes a value as JSON knows numbers; what JSON does not know becomes a string.
pub(crate) fn write_json_number(out: &mut Vec<u8>, v: f64) {
    if v.is_finite() {
        write_float(out, v);
    } else {
        out.push(b'"');
        write_float(out, v);
        out.push(b'"');
    }
}

fn write_exponent(out: &mut Vec<u8>, v: f64) {
    let text = format!("{v:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    let _ = write!(out, "{digits}e{sign}{exponent:0>2}");
}

/// Writes a sample's time, given in milliseconds, in seconds.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, ms: i64) {
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    write_integer(out, ms / 1000);
    let fraction = (ms % 1000) as u32;
    if fraction != 0 {
        out.push(b'.');
        for digit in [fraction / 100, fraction / 10 % 10, fraction % 10] {
            out.push(b'0' + digit as u8);
        }
    }
}

/// Writes a whole number, two digits at a time.
pub(crate) fn write_integer(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while n >= 10 {
        at -= 2;
        let pair = (n % 100) as usize * 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        n /= 100;
    }
    // One digit is left, or none where the number had an even number of them.
    if n > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// `00` to `99`.
const PAIRS: [u8; 200] = {
    let (mut pairs, mut n) = ([0; 200], 0);
    while n < 100 {
        pairs[n * 2] = b'0' + (n / 10) as u8;
        pairs[n * 2 + 1] = b'0' + (n % 10) as u8;
        n += 1;
    }
    pairs
};

/// Writes a label's name or value as a JSON string.
pub(crate) fn write_label(out: &mut Vec<u8>, text: &str) {
    write_escaped(out, text, false);
}

/// Writes any other string as a JSON string that is safe inside HTML.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    write_escaped(out, text, true);
}

fn write_escaped(out: &mut Vec<u8>, text: &str, html: bool) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &b) in bytes.iter().enumerate() {
        let escape = match b {
            b'"' | b'\\' => 1,
            0..=0x1f => 1,
            b'<' | b'>' | b'&' if html => 1,
            // U+2028 and U+2029, which end a line in JavaScript.
            0xe2 if html && matches!(bytes.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9])) => 3,
            _ => continue,
        };
        out.extend_from_slice(&bytes[done..at]);
        done = at + escape;
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xe2 => out.extend_from_slice(if bytes[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" }),
            _ => {
                let _ = write!(out, "\\u00{b:02x}");
            }
        }
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn values_are_written_as_prometheus_writes_them() {
        for (v, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.1"),
            (95.5, "95.5"),
            (1e-6, "0.000001"),
            (9.99e-7, "9.99e-07"),
            (-1e-7, "-1e-07"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (9007199254740993.0, "9007199254740992"),
            (123456789012345680.0, "123456789012345680"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|out| write_float(out, v)), text);
        }
        assert_eq!(written(|out| write_fixed(out, 1e21)), "1000000000000000000000");
        assert_eq!(written(|out| write_fixed(out, 1e-7)), "0.0000001");
        assert_eq!(written(|out| write_json_number(out, f64::NAN)), "\"NaN\"");
    }

    #[test]
    fn whole_numbers_of_every_length_are_written() {
        let mut n = 0u64;
        for length in 1..=19 {
            n = n * 10 + length % 10;
            for n in [n, n - n % 10, 10u64.pow(length as u32 - 1), 10u64.pow(length as u32) - 1] {
                assert_eq!(written(|out| write_integer(out, n)), n.to_string());
            }
        }
        assert_eq!(written(|out| write_integer(out, u64::MAX)), u64::MAX.to_string());
    }

    #[test]
    fn times_have_three_decimals_or_none() {
        for (ms, text) in [
            (0, "0"),
            (1, "0.001"),
            (-1500, "-1.500"),
            (1435781451781, "1435781451.781"),
            (1435781451050, "1435781451.050"),
            (864_000_000_000, "864000000"),
            (i64::MIN, "-9223372036854775.808"),
        ] {
            assert_eq!(written(|out| write_timestamp(out, ms)), text);
        }
    }

    #[test]
    fn strings_are_escaped_and_only_those_outside_of_results_for_html() {
        assert_eq!(
            written(|out| write_label(out, "<a>\u{2028}\n\t\u{8}\"\\é")),
            "\"<a>\u{2028}\\n\\t\\u0008\\\"\\\\é\""
        );
        assert_eq!(
            written(|out| write_string(out, "<a>&\u{2028}\u{2029}é\r")),
            "\"\\u003ca\\u003e\\u0026\\u2028\\u2029é\\r\""
        );
        assert_eq!(written(|out| write_label(out, "")), "\"\"");
    }
}
