use super::{Item, parse_histogram, parse_metric, parse_series};

/// The items as text.
fn items(text: &str) -> Vec<String> {
    let (_, items) = parse_series(&format!("a {text}"), 100).unwrap_or_else(|e| panic!("{text}: {e}"));
    let show = |item: &Item| match item {
        Item::Gap => "_".to_owned(),
        Item::Float(v) if model::is_stale(*v) => "stale".to_owned(),
        Item::Float(v) => v.to_string(),
        Item::Histogram(histogram) => histogram.notation(),
    };
    items.iter().map(show).collect()
}

fn check(text: &str, expect: &[&str]) {
    assert_eq!(items(text), expect, "{text}");
}

fn fails(text: &str, error: &str) {
    let refused = parse_series(text, 100).map(|(pairs, items)| (pairs, items.len())).expect_err(text);
    assert_eq!(refused.to_string(), error, "{text}");
}

#[test]
fn values_repeat_and_grow() {
    check("", &[]);
    check(" 1  2 ", &["1", "2"]);
    check("1x2 _ _x3 4", &["1", "1", "1", "_", "_", "_", "_", "4"]);
    check("1+2x2", &["1", "3", "5"]);
    check("1-2x2 -1+0.5x1", &["1", "-1", "-3", "-1", "-0.5"]);
    check("stale 0x10", &["stale", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0"]);
    check("NaN Inf -inf 1e3 1_000 .5 5. 010 1e-3", &["NaN", "inf", "-inf", "1000", "1000", "0.5", "5", "8", "0.001"]);
    check("inf+1x1", &["inf", "inf"]);
}

#[test]
fn histograms_repeat_and_grow() {
    check("{{}} {{ }}", &["{{}}", "{{}}"]);
    let all = "{{schema:1 count:32.1 sum:-0.3 z_bucket:7.1 z_bucket_w:0.05 offset:-3 buckets:[5.1 10 7] n_offset:-5 n_buckets:[4.1 5]}}";
    check(all, &[all]);
    check(
        "{{count:2 buckets:[2]}}+{{sum:1.5 count:1 buckets:[1 1]}}x2",
        &["{{count:2 buckets:[2]}}", "{{count:3 sum:1.5 buckets:[3 1]}}", "{{count:4 sum:3 buckets:[4 2]}}"],
    );
    check("{{count:2}}-{{count:1}}x1 {{}}x1", &["{{count:2}}", "{{count:1}}", "{{}}", "{{}}"]);
    check(
        "{{counter_reset_hint:gauge buckets:[0 1 0 2 0]}}",
        &["{{counter_reset_hint:gauge offset:1 buckets:[1 0 2]}}"],
    );
    let custom = "{{schema:-53 custom_values:[-1 2.5] buckets:[1 1 1]}}";
    check(custom, &[custom]);
    // Far apart, so that nothing is filled in between.
    check(
        "{{buckets:[1]}}+{{offset:99999999 buckets:[1]}}x1",
        &["{{buckets:[1]}}", "{{buckets:[1] offset:99999999 buckets:[1]}}"],
    );
    assert!(parse_histogram("{{count:1}}").is_ok());
    assert_eq!(parse_histogram("5").expect_err("no histogram"), "expected histogram, got 5.000000");
    assert_eq!(parse_histogram("{{}} {{}}").expect_err("two"), "expected 1 value, got 2");
    assert_eq!(parse_histogram("").expect_err("none"), "expected 1 value, got 0");
}

#[test]
fn labels_are_those_of_a_series() {
    let check = |text: &str, expect: &str| {
        let pairs = parse_metric(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let told: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        assert_eq!(told.join(","), expect, "{text}");
    };
    check("", "");
    check("{}", "");
    check("sum", "__name__=sum");
    check("a:b{c=\"d\",}", "c=d,__name__=a:b");
    check("a{__name__=\"b\"}", "__name__=a");
    check("{\"x.y\", 'e.f'=`g`}", "__name__=x.y,e.f=g");
    check("by{on=\"1\", on=\"2\"}", "on=1,on=2,__name__=by");
    check("a {b=\"}\"}", "b=},__name__=a");
}

#[test]
fn errors_have_the_place_and_the_words_of_prometheus() {
    fails("a 1 2 x", "1:7: parse error: unexpected \"x\"");
    fails(
        "a 1 2 bad",
        "1:7: parse error: unexpected identifier \"bad\" in series values, expected number or \"stale\"",
    );
    fails("a 1+2", "1:6: parse error: unexpected end of input in series values");
    fails("a 1x", "1:5: parse error: unexpected end of input in series values");
    fails("a 1x-1", "1:5: parse error: unexpected <op:-> in series values");
    fails("a 1--2x5", "1:5: parse error: unexpected <op:-> in series values");
    let syntax = "strconv.ParseUint: parsing \"1.5\": invalid syntax";
    fails("a 1x1.5", &format!("1:5: parse error: invalid repetition in series values: {syntax}"));
    fails("a 1e", "1:3: parse error: bad number syntax: \"1e\"");
    fails("a 1,2", "1:4: parse error: unexpected character in series sequence: ','");
    fails("a {b=\"c\"} 1", "1:3: parse error: unexpected character in series sequence: '{'");
    fails("1", "1:1: parse error: unexpected number \"1\" in series values");
    fails("a{b=c} 1", "1:5: parse error: unexpected identifier \"c\" in label set, expected string");
    fails("a{b=\"c\" d=\"e\"}", "1:9: parse error: unexpected identifier \"d\" in label set, expected \",\" or \"}\"");
    fails("a{b} 2", "1:4: parse error: unexpected \"}\" in label set, expected \"=\"");
    fails("a {{schema:1 foo:2}}", "1:14: parse error: bad histogram descriptor found: \"foo\"");
    fails("a {{schema:1.5}}", &format!("1:12: parse error: invalid repetition in series values: {syntax}"));
    fails("a {{schema:1 schema:2}}", "1:14: parse error: duplicate key \"schema\" in histogram");
    fails("a {{buckets:[1 2}}", "1:17: parse error: invalid character in buckets description: '}'");
    fails("a {{buckets:[]}}", "1:14: parse error: unexpected \"]\" in series values");
    fails("a {{count:+1}}", "1:11: parse error: histogram description incomplete unexpected: '+'");
    fails(
        "a {{schema:3}}+{{schema:2}}x3",
        "1:29: parse error: error combining histograms: cannot merge from schema 2 to 3",
    );
    // Refused before they are made.
    fails("a 1x99999999999999999", "1:22: parse error: more than 100 values in series values");
    fails("a 1x50 _x49 1", "1:14: parse error: more than 100 values in series values");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a{}= \"0-9x_+.e:\\[\\]-]{0,40}") {
        let _ = parse_series(&text, 50);
        let _ = parse_series(&format!("a {{{{{text}"), 50);
    }
}
