use proptest::prelude::*;

use crate::ast::{Expr, Node};
use crate::{DEPTH_MAX, Features, LENGTH_MAX, parse, parse_selector};

/// Everything, but names that are not ASCII need quotes.
fn quoted() -> Features {
    Features { unquoted_utf8_names: false, ..Features::all() }
}

fn ok(text: &str) -> Expr {
    parse(text, &quoted()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// What is printed parses to the same text again.
fn prints(text: &str, canonical: &str) {
    let expr = ok(text);
    assert_eq!(expr.to_string(), canonical, "{text}");
    assert_eq!(ok(canonical).to_string(), canonical, "{text}");
}

fn fails(text: &str, error: &str) {
    let refused = parse(text, &Features::default()).expect_err(text);
    assert_eq!(refused.to_string(), error, "{text}");
}

#[test]
fn precedence_and_grouping_are_those_of_prometheus() {
    let grouped = |text: &str| {
        fn show(e: &Expr) -> String {
            match &e.node {
                Node::Binary(b) => format!("({} {} {})", show(&b.left), b.op.as_str(), show(&b.right)),
                Node::Unary(u) => format!("({}{})", if u.negative { "-" } else { "+" }, show(&u.expr)),
                _ => e.to_string(),
            }
        }
        show(&ok(text))
    };
    assert_eq!(grouped("a + b * c ^ d ^ e"), "(a + (b * (c ^ (d ^ e))))");
    assert_eq!(grouped("a - b - c"), "((a - b) - c)");
    assert_eq!(grouped("-a ^ b"), "(-(a ^ b))");
    assert_eq!(grouped("-a * b"), "((-a) * b)");
    assert_eq!(grouped("a or b and c unless d"), "(a or ((b and c) unless d))");
    assert_eq!(grouped("a == b + c"), "(a == (b + c))");
    assert_eq!(grouped("a atan2 b * c"), "((a atan2 b) * c)");
    assert_eq!(grouped("-1 ^ 2"), "(-(1 ^ 2))");
}

#[test]
fn expressions_print_as_prometheus_prints_them() {
    prints("up", "up");
    prints(r#"up{job="a",}"#, r#"up{job="a"}"#);
    prints(r#"{__name__="up", x!~"a|b"}"#, r#"{__name__="up",x!~"a|b"}"#);
    prints(r#"{"metric.name", "label.x"='y'}"#, r#"{"label.x"="y",__name__="metric.name"}"#);
    prints(r#"{"up", x="y", a="b"}"#, r#"{__name__="up",a="b",x="y"}"#);
    prints("a{x=~`\\d+`}", r#"a{x=~"\\d+"}"#);
    prints("up[90s]", "up[1m30s]");
    prints("up[300]", "up[5m]");
    prints("up offset -5m @ 10", "up @ 10.000 offset -5m");
    prints("up @ start() offset 1w", "up @ start() offset 1w");
    prints("up[5m] @ -1.5", "up[5m] @ -1.500");
    prints("rate(a[5m])[1h:] offset 5m", "rate(a[5m])[1h:] offset 5m");
    prints("sum(a)by(x,y)", "sum by (x, y) (a)");
    prints("SUM WITHOUT (x) (a)", "sum without (x) (a)");
    prints("topk by (job) (5, a)", "topk by (job) (5, a)");
    prints("sum by () (a)", "sum(a)");
    prints("a * on() b", "a * on () b");
    prints("a == bool on(x) group_left(y) b", "a == bool on (x) group_left (y) b");
    prints("a / ignoring(x) group_right b", "a / ignoring (x) group_right () b");
    prints("a + fill(0) b", "a + fill (0) b");
    prints("1_000_000 + 0x1F + 1e3 + .5 + Inf + nan + 5m", "1000000 + 31 + 1000 + 0.5 + +Inf + NaN + 5m");
    prints("0x_1F_f + 0XE1e5 + 017 + 0_9 + 0xe-1 + 1_0.5_0e1_0", "511 + 57829 + 15 + 9 + 14 - 1 + 105000000000");
    prints("a{b=\"\\xff\\xc3\\xa9\\303\"}", "a{b=\"\\xffé\\xc3\"}");
    // It is nowhere, and its text is not read as what it was.
    assert_eq!(ok("a offset NaN").to_string(), "a offset --106751d23h47m16s854ms");
    prints("a offset -0.001 + rate(b[1.001] offset +step())", "a offset -1ms + rate(b[1s1ms] offset step())");
    prints("1e-7 * 1e21", "0.0000001 * 1000000000000000000000");
    prints(r#"label_replace(a, "x", "$1", "y", "(.*)\\.\u00e9")"#, r#"label_replace(a, "x", "$1", "y", "(.*)\\.é")"#);
    prints("rate(a[5m*2]) + b", "rate(a[5m * 2]) + b");
    prints("a offset -(2*5m)", "a offset -(2 * 5m)");
    prints("a[max_of(step(),5s)]", "a[max_of(step(), 5s)]");
    prints("a[1h:step()*2]", "a[1h:step() * 2]");
    prints("increase(a[5m] anchored)", "increase(a[5m] anchored)");
    prints("by + sum + and{offset=\"x\"}", "by + sum + and{offset=\"x\"}");
    prints("a # comment\n+ b", "a + b");
    prints("h </ 5", "h </ 5");
    prints("foo:bar:sum", "foo:bar:sum");
    prints("time() - vector(1)", "time() - vector(1)");
    prints("hour()", "hour()");
    prints("round(a, 5)", "round(a, 5)");
}

#[test]
fn what_is_longer_than_a_line_is_divided_where_it_is_put_together() {
    let text = "sum by (job) (rate(a_metric_with_quite_a_long_name[5m]) + rate(a_metric_with_quite_a_long_name{a=\"b\"}[5m])) / \
                on (job) -sum(a_metric_with_quite_a_long_name) > bool 5";
    let lines = r#"    sum by (job) (
      rate(a_metric_with_quite_a_long_name[5m]) + rate(a_metric_with_quite_a_long_name{a="b"}[5m])
    )
  / on (job)
    -sum(a_metric_with_quite_a_long_name)
> bool
  5"#;
    assert_eq!(ok(text).to_lines(), lines);
    assert_eq!(ok(lines).to_string(), text);
    assert_eq!(ok("1+2").to_lines(), "1 + 2");
}

#[test]
fn errors_have_line_column_and_the_words_of_prometheus() {
    fails("", "unknown position: parse error: no expression found in input");
    fails(" #", "1:1: parse error: no expression found in input");
    fails("sum(", "1:5: parse error: unclosed left parenthesis");
    fails("1 +", "1:4: parse error: unexpected end of input");
    fails("a{", "1:3: parse error: unexpected end of input inside braces");
    fails("\n\n  nope(a)", "3:3: parse error: unknown function with name \"nope\"");
    fails("rate(a)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector");
    fails("rate(a[5m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2");
    fails("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher");
    fails(r#"{x=~".*"}"#, "1:1: parse error: vector selector must contain at least one non-empty matcher");
    fails("1 > 2", "1:3: parse error: comparisons between scalars must use BOOL modifier");
    fails("1 and 2", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression");
    fails("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators");
    fails("a[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types");
    fails("(a)[5m]", "1:4: parse error: ranges only allowed for vector selectors");
    fails("a[0]", "1:3: parse error: duration must be greater than 0");
    fails("a[1e30]", "1:3: parse error: duration out of range");
    fails("a[5m:1m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead");
    fails("a offset 1m offset 2m", "1:1: parse error: offset may not be set multiple times");
    fails("a @ Inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf");
    fails("\"abc", "1:1: parse error: unterminated quoted string");
    fails("a b", "1:3: parse error: unexpected identifier \"b\"");
    fails(
        "a{x=\"1\" or y=\"2\"}",
        "1:9: parse error: unexpected identifier \"or\" in label matching, expected \",\" or \"}\"",
    );
    fails("a{x=~\"(\"}", "1:3: parse error: invalid regular expression \"(\": unclosed group");
    fails(
        "topk(a)",
        "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
    );
    fails("sum(\"x\")", "1:5: parse error: expected type instant vector in aggregation expression, got string");
    // What is no experiment any more needs no feature.
    assert!(parse("rate(a[5m * 2] smoothed)", &Features::default()).is_ok());
    fails("a[99999999999y]", "1:3: parse error: duration out of range");
    fails("a and on(x) group_left b", "1:1: parse error: no grouping allowed for \"and\" operation");
    fails("$a", "1:1: parse error: unexpected character: '$'");
    let error = parse("1 +\n rat(a[5m])", &Features::default()).expect_err("unknown");
    assert_eq!(error.caret("1 +\n rat(a[5m])"), " rat(a[5m])\n ^^^");
    assert_eq!(error.did_you_mean(), Some("rate"));
}

#[test]
fn numbers_are_refused_as_go_refuses_them() {
    let refused = |text: &str, why: &str| {
        assert_eq!(parse(text, &Features::all()).expect_err(text).to_string(), format!("1:1: parse error: {why}"));
    };
    for text in ["0x1e+5", "0xee-1", "0x"] {
        refused(text, &format!("error parsing number: strconv.ParseFloat: parsing {text:?}: invalid syntax"));
    }
    for (text, read) in [
        ("0x1p-2", "0x1"),
        ("0x1.8", "0x1."),
        ("0x1e", "0x1e"),
        ("0x1__f", "0x1__"),
        ("1__0", "1__"),
        ("0x1E_5", "0x1E_"),
        ("0b1", "0"),
        ("1e+_1", "1e+_"),
    ] {
        refused(text, &format!("bad number or duration syntax: {read:?}"));
    }
    refused("1e400", "error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range");
}

#[test]
fn large_and_deep_input_is_read_or_refused_in_linear_time() {
    let refused = |text: &str| parse(text, &Features::default()).expect_err("refused").message;
    assert_eq!(ok(&vec!["a"; 300].join(" + ")).span.end, 300 * 4 - 3);
    assert!(refused(&vec!["a"; 15_000].join("+")).contains("nested deeper"));
    assert!(refused(&"(".repeat(30_000)).contains("nested deeper"));
    assert!(refused(&"-".repeat(30_000)).contains("nested deeper"));
    assert!(refused(&format!("a[{}1m]", "-".repeat(30_000))).contains("nested deeper"));
    assert!(refused(&format!("a[{}1m]", "1+".repeat(20_000))).contains("nested deeper"));
    assert!(refused(&format!("a{}", "[1m:]".repeat(10_000))).contains("nested deeper"));
    assert!(refused(&"a".repeat(70_000)).contains("at most 65536"));
}

/// Steps that reading a text may take for each of its bytes, and beside them: what is deep is bounded by itself.
const STEPS_A_BYTE: usize = 24;
const STEPS_BESIDE: usize = 4 * DEPTH_MAX * DEPTH_MAX;

/// Reads a text, and checks that it took no more steps than it may.
fn bounded(text: &str) {
    crate::work::take();
    let read = parse(text, &Features::all()).map(drop).map_err(|e| e.message);
    let (steps, length) = (crate::work::take(), text.len());
    let most = if length > LENGTH_MAX { 100 } else { STEPS_A_BYTE * length + STEPS_BESIDE };
    assert!(steps <= most, "{steps} steps for {length} bytes, {:?}...: {read:?}", &text[..length.min(60)]);
}

#[test]
fn the_steps_of_reading_long_texts_grow_with_their_length_only() {
    for part in [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "a[",
        "a[(",
        "a[1+",
        "a[max_of(",
        "a[-",
        "-",
        "- ",
        "a+",
        "a or ",
        "a^",
        "sum(",
        "sum by (",
        "rate(",
        "f(a,",
        "a offset ",
        "a offset 5m ",
        "a offset -(",
        "a @ ",
        "a @ 1 ",
        "{a=\"b\",",
        "{\"a\",",
        "a[1m:]",
        "``",
        "`",
        "\"\"",
        "'\\n'",
        "#\n",
        "#",
        "fill ",
        "a + fill ",
        "fill_left\n\n\n\n",
        "1h",
        "1_",
        "0.",
        "1e",
        "a == bool ",
        "a + on(a) group_left ",
        "a + fill(0) ",
        "by ",
        "start() ",
        "é",
        "\u{fffd}",
    ] {
        for length in [1 << 10, 1 << 13, LENGTH_MAX] {
            bounded(&part.repeat(length / part.len()));
        }
        bounded(&part.repeat((1 << 20) / part.len()));
    }
    // Lists that are held against each other.
    for length in [100, 1_000, 3_000] {
        let names = |prefix: &str| (0..length).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(",");
        bounded(&format!("a * on ({}) group_left ({}) b", names("a"), names("b")));
        bounded(&format!("sum by ({}) (a{{{}}})", names("a"), names("x").replace(',', "=\"\",")));
    }
    // Much of what is blank or a comment, behind words that are looked behind.
    bounded(&format!("a{}", " + fill".repeat(2_000)));
    bounded(&format!("a{}", format!("+fill{}", " ".repeat(2_000)).repeat(30)));
}

#[test]
fn a_selector_alone_gives_its_matchers() {
    assert_eq!(parse_selector(r#"up{job="a"}"#, &Features::default()).expect("valid").len(), 2);
    for text in ["sum(up)", "up[5m]", "up offset 5m", "1", "up{"] {
        assert!(parse_selector(text, &Features::default()).is_err(), "{text}");
    }
}

fn word() -> impl Strategy<Value = String> {
    let words = "a sum by ( ) { } [ ] , : = == =~ + - * / ^ % < > @ offset 5m 1 \"x\" ' ` rate bool on ignoring group_left and or unless start end inf 1e30 fill # \n x:y";
    prop::sample::select(words.split(' ').map(str::to_owned).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,60}") {
        let _ = parse(&text, &Features::all());
    }

    #[test]
    fn what_is_repeated_takes_steps_by_its_length_only(words in prop::collection::vec(word(), 1..5), spaced: bool) {
        let part = words.join(if spaced { " " } else { "" });
        bounded(&part.repeat(LENGTH_MAX / part.len().max(1)));
    }

    #[test]
    fn no_soup_of_tokens_makes_the_parser_panic(words in prop::collection::vec(word(), 0..25)) {
        let text = words.join(" ");
        if let Ok(expr) = parse(&text, &Features::all()) {
            let printed = expr.to_string();
            let again = parse(&printed, &Features::all()).map(|e| e.to_string());
            prop_assert_eq!(again, Ok(printed));
        }
        if let Err(error) = parse(&text, &Features::all()) {
            let _ = error.caret(&text);
        }
    }
}

#[test]
fn names_of_all_scripts_need_no_quotes_where_that_is_switched_on() {
    let on = Features { unquoted_utf8_names: true, ..Features::default() };
    let prints = |text: &str, canonical: &str| {
        let expr = parse(text, &on).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), canonical, "{text}");
        assert_eq!(parse(canonical, &on).map(|expr| expr.to_string()), Ok(canonical.to_owned()));
        assert!(parse(text, &quoted()).is_err(), "{text}");
    };
    prints("größe.mm{straße=\"x\",k8s.pod!=\"\"}", "größe.mm{k8s.pod!=\"\",straße=\"x\"}");
    prints("sum by (k8s.pod, \"a b\", \"日本\") (http.requests)", "sum by (k8s.pod, \"a b\", 日本) (http.requests)");
    prints("a.b + on (x.y) group_left (\"z.ü\") c", "a.b + on (x.y) group_left (z.ü) c");
    // The Kelvin sign is a letter, and no K.
    prints("on\u{212a} + 1.5", "on\u{212a} + 1.5");
    // Neither a mark nor a letter-like number is a letter, and a dot begins no name.
    for (text, error) in [
        ("\u{301}a", "1:1: parse error: unexpected character: '\u{301}'"),
        ("a\u{2160}", "1:2: parse error: unexpected character: 'Ⅰ'"),
        ("{.a=\"b\"}", "1:2: parse error: unexpected character inside braces: '.'"),
        ("sum by (a:b) (c)", "1:9: parse error: invalid label name for grouping: \"a:b\""),
    ] {
        assert_eq!(parse(text, &on).expect_err(text).to_string(), error, "{text}");
    }
    assert!(parse("sum by (a:b) (c)", &quoted()).is_ok());
}
