//! A file with the values of flags: `name: value`, a name being that of a flag without its dashes.
//!
//! Its values become arguments before those of the command line, unless the flag's environment variable is set; so a flag wins
//! over the environment, and the environment over the file. Not a second way to configure: every key is a flag, checked as one.

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
