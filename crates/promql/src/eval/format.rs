//! Numbers in texts as Go prints them, since warnings and label values carry them.

/// `FormatFloat(v, 'g', -1, 64)`: the shortest digits that read back, with an exponent below -4 and above 5, so that a million is `1e+06`.
pub fn general(v: f64) -> String {
    exponent_from(v, 6)
}

/// `%.2g`: two significant digits.
pub(crate) fn two_digits(v: f64) -> String {
    if !v.is_finite() {
        return plain(v);
    }
    let text = format!("{v:.1e}");
    let rounded: f64 = text.parse().unwrap_or(v);
    exponent_from(rounded, 2)
}

/// `FormatFloat(v, 'f', -1, 64)`: the shortest digits without an exponent.
pub fn plain(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{v}")
    }
}

/// A number as OpenMetrics has it: `1.0`, `0.5`, `1e+06`.
pub(crate) fn open_metrics(v: f64) -> String {
    if !v.is_finite() {
        return plain(v);
    }
    let text = exponent_from(v, 21);
    if text.contains(['e', '.']) { text } else { format!("{text}.0") }
}

fn exponent_from(v: f64, digits: i32) -> String {
    if !v.is_finite() {
        return plain(v);
    }
    let text = format!("{v:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..digits).contains(&exponent) {
        return plain(v);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_go_prints_them() {
        for (v, text) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (-1.0, "-1"),
            (1e6, "1e+06"),
            (100_000.0, "100000"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0"),
            (123_456.5, "123456.5"),
            (-1_234_567.0, "-1.234567e+06"),
            (1e100, "1e+100"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(general(v), text);
        }
        assert_eq!(two_digits(123.0), "1.2e+02");
        assert_eq!(two_digits(0.126), "0.13");
        assert_eq!(plain(1e21), "1000000000000000000000");
        assert_eq!(open_metrics(1.0), "1.0");
        assert_eq!(open_metrics(0.99), "0.99");
    }
}
