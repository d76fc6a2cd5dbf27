//! Times and numbers as Prometheus' and Alertmanager's JSON write them.

use model::Labels;

/// The zero time of Go.
pub(crate) const TIME_ZERO: &str = "0001-01-01T00:00:00Z";

/// A time in RFC 3339, in UTC, without the zeros at the end of its fraction.
pub(crate) fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = rules::rule::civil(days);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}").trim_end_matches('0').to_owned() };
    format!("{year:04}-{month:02}-{day:02}T{clock}{fraction}Z")
}

/// A value as Go's `%e` with the fewest digits: `1e+00`.
pub(crate) fn value(v: f64) -> String {
    if v.is_nan() {
        return "NaN".to_owned();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{v:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// Labels as a JSON object.
pub(crate) fn labels(labels: &Labels) -> serde_json::Value {
    labels.iter().map(|(name, value)| (name.to_owned(), serde_json::Value::from(value))).collect()
}

/// Labels from a JSON object.
pub(crate) fn read_labels(json: &str) -> Option<Labels> {
    let map: std::collections::BTreeMap<String, String> = serde_json::from_str(json).ok()?;
    let pairs: Vec<(String, String)> = map.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    if pairs.is_empty() { Some(Labels::empty()) } else { Labels::new(&pairs).ok() }
}

/// A text in a query string.
pub(crate) fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_values_are_written_as_prometheus_does() {
        assert_eq!(time(1_531_427_232_606), "2018-07-12T20:27:12.606Z");
        assert_eq!((time(0), time(-1)), ("1970-01-01T00:00:00Z".into(), "1969-12-31T23:59:59.999Z".into()));
        assert_eq!(time(951_782_400_100), "2000-02-29T00:00:00.1Z");
        for (v, text) in
            [(1.0, "1e+00"), (0.0, "0e+00"), (1234.5, "1.2345e+03"), (0.002, "2e-03"), (f64::INFINITY, "+Inf")]
        {
            assert_eq!(value(v), text);
        }
        assert_eq!(query_escape("up{a=\"b c\"} > 1"), "up%7Ba%3D%22b+c%22%7D+%3E+1");
    }

    #[test]
    fn labels_survive_json() {
        for set in [Labels::new(&[("a", "1"), ("b", "ü\"")]).expect("valid"), Labels::empty()] {
            assert_eq!(read_labels(&labels(&set).to_string()), Some(set));
        }
        assert_eq!(read_labels("[]"), None);
    }
}
