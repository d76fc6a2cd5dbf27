//! Numbers as Go prints them.

/// A number as `%.{digits}g` of Go.
pub(super) fn significant(v: f64, digits: usize) -> String {
    special(v).unwrap_or_else(|| {
        let text = format!("{v:.*e}", digits.saturating_sub(1));
        let exponent = exponent(&text);
        if v == 0.0 {
            return format!("{v}");
        }
        if exponent < -4 || exponent >= digits as i32 {
            let (mantissa, _) = text.split_once('e').unwrap_or((&text, ""));
            return scientific(&format!("{}e{exponent}", trimmed(mantissa)));
        }
        trimmed(&format!("{v:.*}", (digits as i32 - 1 - exponent).max(0) as usize)).to_owned()
    })
}

fn special(v: f64) -> Option<String> {
    if v.is_nan() {
        return Some("NaN".to_owned());
    }
    v.is_infinite().then(|| if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned())
}

fn trimmed(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

fn exponent(text: &str) -> i32 {
    text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0)
}

/// `1.5e7` as `1.5e+07`.
fn scientific(text: &str) -> String {
    let exponent = exponent(text);
    let mantissa = text.split('e').next().unwrap_or("");
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
