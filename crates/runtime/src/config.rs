//! A file with the values of flags: `name: value`, a name being that of a flag without its dashes.
//!
//! Its values become arguments before those of the command line, unless the flag's environment variable is set; so a flag wins
//! over the environment, and the environment over the file. Not a second way to configure: every key is a flag, checked as one.

use std::time::Duration;

/// The arguments for a file's text, given as parsed keys and values. `variable_is_set` says whether the environment has a value.
pub fn arguments(
    entries: &[(String, String)],
    known: &[String],
    variable_is_set: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let mut out = Vec::new();
    for (key, value) in entries {
        if !known.contains(key) {
            let near = known.iter().min_by_key(|name| distance(name, key)).filter(|name| distance(name, key) <= 3);
            let hint = near.map_or_else(String::new, |name| format!("; did you mean {name:?}?"));
            problems.push(format!("unknown key {key:?}{hint}"));
        } else if !variable_is_set(&format!("WEIR_{}", key.replace('-', "_").to_uppercase())) {
            out.push(format!("--{key}={value}"));
        }
    }
    if problems.is_empty() { Ok(out) } else { Err(problems.join("\n")) }
}

/// A duration as people write it, `1m30s`: numbers with the units h, m, s and ms, each at most once and the larger first.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let wrong = || format!("{text:?} is not a duration such as 5s or 1m30s");
    let (mut rest, mut total_ms, mut next) = (text, 0u64, 0);
    while !rest.is_empty() || next == 0 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = &rest[digits..digits + letters];
        let at = UNITS.iter().position(|(name, _)| *name == unit).filter(|at| *at >= next).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        total_ms = number.checked_mul(UNITS[at].1).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        next = at + 1;
        rest = &rest[digits + letters..];
    }
    Ok(Duration::from_millis(total_ms))
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = before + usize::from(ca != *cb);
            before = row[j + 1];
            row[j + 1] = substituted.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_from_large_to_small() {
        for (text, ms) in [("5s", 5000), ("0s", 0), ("1m30s", 90_000), ("250ms", 250), ("1h1ms", 3_600_001)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1s1m", "1s1s", "1.5s", "5 s", "99999999999999999999s", "9999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_flags_and_the_environment_wins() {
        let known = ["listen".to_owned(), "data".to_owned()];
        let entry = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let entries = [entry("listen", "0.0.0.0:1"), entry("data", "/d")];
        let arguments_of = |entries: &[_]| arguments(entries, &known, |name| name == "WEIR_DATA");
        assert_eq!(arguments_of(&entries), Ok(vec!["--listen=0.0.0.0:1".to_owned()]));
        let error = arguments_of(&[entry("lisen", "x"), entry("zzzzzzzz", "y")]).expect_err("refused");
        assert_eq!(error, "unknown key \"lisen\"; did you mean \"listen\"?\nunknown key \"zzzzzzzz\"");
    }
}
