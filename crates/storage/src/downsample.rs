//! How a flag says of which series samples are left out when they are old.

use tsdb::{DownsampleRule, Level};

use crate::retention::split;

/// The rules; of those that a series meets the first one counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Downsample(
    /// In the order in which they are given.
    pub Vec<DownsampleRule>,
);

/// The shortest window: shorter ones have no more than a sample or two.
const RESOLUTION_MIN_MS: i64 = 1_000;
/// The longest window. It bounds what a single sample can stand for.
const RESOLUTION_MAX_MS: i64 = 30 * 86_400_000;

/// Reads rules such as `{env="dev"}: 7d:5m 60d:1h, {}: 90d:1h`.
pub(crate) fn parse(text: &str) -> Result<Downsample, String> {
    let rules = split(text).into_iter().enumerate().map(|(n, rule)| {
        parse_rule(rule.trim()).map_err(|problem| format!("rule {}, `{}`: {problem}", n + 1, rule.trim()))
    });
    Ok(Downsample(rules.collect::<Result<_, _>>()?))
}

fn parse_rule(text: &str) -> Result<DownsampleRule, String> {
    // From the end, since a selector has spaces and colons too: what is left is the selector once it ends with a colon.
    let (mut rest, mut words) = (text, Vec::new());
    while !rest.ends_with(':') {
        let (before, word) = rest
            .rsplit_once(char::is_whitespace)
            .ok_or("must be SELECTOR: AGE:RESOLUTION, such as {env=\"dev\"}: 7d:5m 60d:1h")?;
        words.push(word);
        rest = before.trim_end();
    }
    if words.is_empty() {
        return Err("an AGE:RESOLUTION must follow the selector, such as 7d:5m".to_owned());
    }
    let matchers = promql::parse_selector(rest.trim_end_matches(':').trim(), &promql::Features::of_flags())
        .map_err(|e| e.to_string())?;
    let levels = words.into_iter().rev().map(parse_level).collect::<Result<Vec<Level>, _>>()?;
    for pair in levels.windows(2) {
        check_order(&pair[0], &pair[1])?;
    }
    Ok(DownsampleRule { matchers, levels })
}

fn parse_level(word: &str) -> Result<Level, String> {
    let (age, resolution) = word.split_once(':').ok_or_else(|| format!("`{word}` must be AGE:RESOLUTION"))?;
    let duration = |text| model::time::parse_duration_ms(text).map_err(|e| format!("`{word}`: {e}"));
    let (age_ms, resolution_ms) = (duration(age)?, duration(resolution)?);
    if !(RESOLUTION_MIN_MS..=RESOLUTION_MAX_MS).contains(&resolution_ms) {
        return Err(format!("`{word}`: the resolution must be from 1s to 30d"));
    }
    if age_ms < resolution_ms {
        return Err(format!("`{word}`: the age must not be shorter than the resolution"));
    }
    let resolution_ms = u32::try_from(resolution_ms).map_err(|_| format!("`{word}`: the resolution is too long"))?;
    Ok(Level { age_ms, resolution_ms })
}

fn check_order(one: &Level, next: &Level) -> Result<(), String> {
    let shown = |ms: i64| model::time::format_duration_ms(ms);
    let (age, resolution) = (shown(next.age_ms), shown(i64::from(next.resolution_ms)));
    if next.age_ms <= one.age_ms {
        return Err(format!("the ages must grow: {age} comes after {}", shown(one.age_ms)));
    }
    if next.resolution_ms <= one.resolution_ms || !next.resolution_ms.is_multiple_of(one.resolution_ms) {
        let before = shown(i64::from(one.resolution_ms));
        return Err(format!(
            "each resolution must be a multiple of the one before it: {resolution} is not of {before}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    #[test]
    fn rules_have_a_selector_and_levels() {
        let check = |text: &str, expect: &[(&str, &[(i64, u32)])]| {
            let show = |rule: &DownsampleRule| {
                let matchers: Vec<String> = rule.matchers.iter().map(ToString::to_string).collect();
                let levels = rule.levels.iter().map(|level| (level.age_ms, level.resolution_ms));
                (matchers.join(","), levels.collect::<Vec<_>>())
            };
            let found: Vec<_> = parse(text).expect(text).0.iter().map(show).collect();
            let expect: Vec<_> = expect.iter().map(|(m, levels)| ((*m).to_owned(), levels.to_vec())).collect();
            assert_eq!(found, expect, "{text}");
        };
        check("", &[]);
        check("{env=\"dev\"}: 7d:5m", &[("env=\"dev\"", &[(7 * DAY, 300_000)])]);
        check(
            r#"{job=~"a: 1d:5m|b, c"} :  7d:5m  60d:1h, job:x:rate: 1d:1m,"#,
            &[
                (r#"job=~"a: 1d:5m|b, c""#, &[(7 * DAY, 300_000), (60 * DAY, 3_600_000)]),
                (r#"__name__="job:x:rate""#, &[(DAY, 60_000)]),
            ],
        );
    }

    #[test]
    fn a_bad_rule_is_named() {
        let check = |text: &str, expect: &str| {
            let problem = parse(text).expect_err(text);
            assert!(problem.contains(expect), "{text}: {problem}");
        };
        check("up: 7d:5m, up", "rule 2, `up`: must be SELECTOR: AGE:RESOLUTION");
        check("up:7d:5m", "must be SELECTOR: AGE:RESOLUTION");
        check("up:", "an AGE:RESOLUTION must follow the selector");
        check("{env=}: 7d:5m", "rule 1, `{env=}: 7d:5m`: ");
        check("up: 7d", "`7d` must be AGE:RESOLUTION");
        check("up: 7x:5m", "`7x:5m`: not a valid duration string: \"7x\"");
        check("up: 7d:5", "`7d:5`: not a valid duration string: \"5\"");
        check("up: 7d:999ms", "the resolution must be from 1s to 30d");
        check("up: 300d:31d", "the resolution must be from 1s to 30d");
        check("up: 5m:1h", "the age must not be shorter than the resolution");
        check("up: 8d:5m 6d:1h", "the ages must grow: 6d comes after 8d");
        check("up: 7d:5m 8d:5m", "each resolution must be a multiple of the one before it: 5m is not of 5m");
        check("up: 7d:5m 8d:7m", "each resolution must be a multiple of the one before it: 7m is not of 5m");
    }
}
