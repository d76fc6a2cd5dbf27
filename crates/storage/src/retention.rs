//! How the flags say how long samples are kept.

use tsdb::RetentionRule;

/// How long samples are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention(
    /// Milliseconds; `None` keeps everything.
    pub Option<i64>,
);

/// How long samples of some series are kept; of the rules that a series meets the first one counts.
#[derive(Debug, Clone, Default)]
pub struct Rules(
    /// In the order in which they are given.
    pub Vec<RetentionRule>,
);

impl Rules {
    /// The longest age that a rule or this one keeps, in milliseconds; `None` where one keeps everything.
    pub fn longest(&self, others: Retention) -> Option<i64> {
        self.0.iter().map(|rule| rule.age_ms).chain([others.0]).try_fold(0, |longest, age| Some(age?.max(longest)))
    }
}

/// How long samples are kept as Prometheus tells it: `15d`, `15d or 10GiB`; the empty text where all are.
pub(crate) fn text(retention: Retention, bytes_max: Option<u64>) -> String {
    let age = retention.0.map(model::time::format_duration_ms);
    let size = bytes_max.map(|bytes| {
        let units = [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let whole = units.into_iter().find(|(_, bits)| bytes != 0 && bytes.trailing_zeros() >= *bits);
        whole.map_or_else(|| format!("{bytes}B"), |(unit, bits)| format!("{}{unit}", bytes >> bits))
    });
    age.into_iter().chain(size).collect::<Vec<_>>().join(" or ")
}

/// Reads a duration, or `off`.
pub(crate) fn parse(text: &str) -> Result<Retention, String> {
    model::time::parse_age_ms(text).map(Retention)
}

/// Reads rules such as `{env="dev"}: 3d, {team="slo"}: off`.
pub(crate) fn parse_rules(text: &str) -> Result<Rules, String> {
    let rules = split(text).into_iter().enumerate().map(|(n, rule)| {
        parse_rule(rule.trim()).map_err(|problem| format!("rule {}, `{}`: {problem}", n + 1, rule.trim()))
    });
    Ok(Rules(rules.collect::<Result<_, _>>()?))
}

fn parse_rule(text: &str) -> Result<RetentionRule, String> {
    let (selector, age) = text.rsplit_once(':').ok_or("must be SELECTOR: DURATION, such as {env=\"dev\"}: 3d")?;
    let matchers = promql::parse_selector(selector.trim(), &promql::Features::of_flags()).map_err(|e| e.to_string())?;
    Ok(RetentionRule { matchers, age_ms: parse(age.trim())?.0 })
}

/// The parts between commas that are neither in braces nor in quotes. The empty text has none.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote, mut escaped) = (Vec::new(), 0, 0i32, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), _) if open == c => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !text[start..].trim().is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn shown(text: &str) -> Vec<(String, Option<i64>)> {
        let show = |rule: &RetentionRule| {
            let matchers: Vec<String> = rule.matchers.iter().map(ToString::to_string).collect();
            (matchers.join(","), rule.age_ms)
        };
        parse_rules(text).expect("valid").0.iter().map(show).collect()
    }

    #[test]
    fn how_long_is_told_as_prometheus_tells_it() {
        for (age, bytes, expect) in [
            ("15d", None, "15d"),
            ("1d12h", Some(10 << 30), "1d12h or 10GiB"),
            ("off", Some(1536 << 20), "1536MiB"),
            ("off", Some(1000), "1000B"),
            ("off", None, ""),
        ] {
            assert_eq!(text(parse(age).expect("an age"), bytes), expect);
        }
    }

    #[test]
    fn rules_are_parted_by_commas_outside_of_selectors() {
        assert_eq!(shown(""), []);
        assert_eq!(shown("http.größe: 1d"), [("__name__=\"http.größe\"".to_owned(), Some(DAY))]);
        assert_eq!(shown(" {env=\"dev\"}: 3d,"), [("env=\"dev\"".to_owned(), Some(3 * DAY))]);
        let expect = [
            (r#"env="a,}:",job=~"x|y""#.to_owned(), Some(DAY)),
            (r#"a="\"{""#.to_owned(), Some(2 * DAY)),
            (r#"__name__="up""#.to_owned(), None),
        ];
        assert_eq!(shown(r#"{env="a,}:", job=~"x|y"}: 1d, {a='"{'}:2d , up: off"#), expect);
    }

    #[test]
    fn a_bad_rule_is_named() {
        let check = |text: &str, expect: &str| {
            let problem = parse_rules(text).expect_err(text);
            assert!(problem.contains(expect), "{text}: {problem}");
        };
        check("up: 3d, {env=\"dev\"}", "rule 2, `{env=\"dev\"}`: must be SELECTOR: DURATION");
        check("{env=}: 3d", "rule 1, `{env=}: 3d`: ");
        check("up: 3x", "rule 1, `up: 3x`: ");
        check("up: 0s", "must be longer than 0, or off");
    }

    #[test]
    fn the_longest_age_is_that_of_a_rule_or_of_the_others() {
        let longest = |rules: &str, others| parse_rules(rules).expect("valid").longest(Retention(others));
        assert_eq!(longest("", Some(DAY)), Some(DAY));
        assert_eq!(longest("a: 3d, b: 2d", Some(DAY)), Some(3 * DAY));
        assert_eq!(longest("a: 3d", None), None);
        assert_eq!(longest("a: off", Some(DAY)), None);
    }
}
