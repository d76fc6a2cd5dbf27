//! The text formats: lines, whole bodies, and what a client is told.

use axum::body::Body;
use axum::http::Request;
use model::{Exemplar, MetricType, Sample};
use proptest::prelude::*;

use super::line::{About, Line, Parts, number, parse};
use super::*;
use crate::tests::{NOW_MS, Rig};

type Read = Result<(Vec<(String, String)>, Line), (usize, String)>;

fn read(line: &str, dialect: Dialect) -> Read {
    let mut parts = Parts::default();
    let parsed = parse(line, dialect, &mut parts).map_err(|fault| (fault.at + 1, fault.reason.into_owned()))?;
    Ok((parts.pairs(line).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), parsed))
}

fn sample(line: &str, pairs: &[(&str, &str)], v: f64, t: Option<i64>) {
    check(line, Dialect::Classic, pairs, v, t, false);
}

fn check(line: &str, dialect: Dialect, pairs: &[(&str, &str)], v: f64, t: Option<i64>, exemplar: bool) {
    let (labels, read) = read(line, dialect).unwrap_or_else(|fault| panic!("{line:?}: {fault:?}"));
    let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(labels, pairs, "{line:?}");
    let Line::Sample { v: got, t: got_t, exemplar: got_exemplar } = read else { panic!("{line:?} is {read:?}") };
    assert_eq!((got.to_bits(), got_t, got_exemplar.is_some()), (v.to_bits(), t, exemplar), "{line:?}");
}

fn bad(line: &str, dialect: Dialect, column: usize, reason: &str) {
    assert_eq!(read(line, dialect), Err((column, reason.to_owned())), "{line:?}");
}

#[test]
fn samples_of_the_classic_format_are_read() {
    sample("a 1", &[("__name__", "a")], 1.0, None);
    sample("\t a:b  -1e3 \t-5 ", &[("__name__", "a:b")], -1000.0, Some(-5));
    sample("a{} NaN", &[("__name__", "a")], f64::NAN, None);
    sample("a {x=\"1\" , y = \"2\",} +Inf\r", &[("__name__", "a"), ("x", "1"), ("y", "2")], f64::INFINITY, None);
    sample("a{x=\"1\"}2", &[("__name__", "a"), ("x", "1")], 2.0, None);
    sample(r#"a{x="\\\"\n\q}",y="é"} 1"#, &[("__name__", "a"), ("x", "\\\"\n\\q}"), ("y", "é")], 1.0, None);
    sample(r#"{"my.metric", "l.é"="1"} 1 2"#, &[("__name__", "my.metric"), ("l.é", "1")], 1.0, Some(2));
    sample(r#"{x="1", "a\"b"} 1"#, &[("x", "1"), ("__name__", "a\"b")], 1.0, None);
}

#[test]
fn bad_lines_are_told_with_column_and_reason() {
    for (line, column, reason) in [
        ("1a 1", 1, "expected a metric name"),
        ("a", 2, "expected a blank"),
        ("a ", 3, "expected a value"),
        ("a x", 3, "value is not a number"),
        ("a 1 x", 5, "timestamp is not an integer, Unix milliseconds"),
        ("a 1 1.5", 5, "timestamp is not an integer, Unix milliseconds"),
        ("a 1 2 3", 7, "expected the end of the line"),
        ("a{", 3, "expected a label name or }"),
        ("a{x} 1", 4, "expected ="),
        ("a{x=1} 1", 5, "expected a label value in double quotes"),
        ("a{x=\"1} 1", 5, "quote is not closed"),
        ("a{x=\"1\\", 5, "quote is not closed"),
        ("a{x=\"1\" y=\"2\"} 1", 9, "expected , or }"),
        ("a{,} 1", 3, "expected a label name or }"),
        ("a{\"b\"} 1", 3, "second metric name"),
        ("{x=\"1\"} 1", 1, "no metric name"),
        ("a 1 # {} 1", 5, "timestamp is not an integer, Unix milliseconds"),
        ("# TYPE a thing", 10, "unknown metric type"),
        ("# HELP 1", 8, "expected a metric name"),
    ] {
        let column = if line == "a 1 # {} 1" {
            // The classic format has no exemplars.
            assert!(read(line, Dialect::Classic).is_err());
            continue;
        } else {
            column
        };
        bad(line, Dialect::Classic, column, reason);
    }
}

#[test]
fn comments_tell_of_families() {
    let about = |line: &str, dialect| read(line, dialect).map(|(_, line)| line);
    let told = |family: &str, about| Ok(Line::About { family: family.to_owned(), about });
    use Dialect::{Classic, OpenMetrics};
    assert_eq!(about("# HELP a x \\\\ \\n \\\" y", Classic), told("a", About::Help("x \\ \n \\\" y".into())));
    assert_eq!(about("# HELP a x \\\"", OpenMetrics), told("a", About::Help("x \"".into())));
    assert_eq!(about("#  TYPE\t\"a.b\" counter ", Classic), told("a.b", About::Type(MetricType::Counter)));
    assert_eq!(about("# TYPE a untyped", Classic), told("a", About::Type(MetricType::Unknown)));
    assert_eq!(about("# UNIT a seconds", OpenMetrics), told("a", About::Unit("seconds".into())));
    assert_eq!(about("# HELP a", Classic), told("a", About::Help(String::new())));
    for nothing in ["", "  ", "#", "# a comment", "#HELP a b", "# EOF", "# UNIT"] {
        assert_eq!(about(nothing, Classic), Ok(Line::Nothing), "{nothing:?}");
    }
    assert_eq!(about("# EOF", OpenMetrics), Ok(Line::End));
}

#[test]
fn open_metrics_has_seconds_exemplars_and_strict_spaces() {
    let name = &[("__name__", "a"), ("x", "1")];
    check("a{x=\"1\"} 1 1.001", Dialect::OpenMetrics, name, 1.0, Some(1001), false);
    check("a{x=\"1\"} 1 1.5 # {t=\"a\"} 0.5 2", Dialect::OpenMetrics, name, 1.0, Some(1500), true);
    check("a{x=\"1\"} 1 # {} 0.5", Dialect::OpenMetrics, name, 1.0, None, true);
    bad("", Dialect::OpenMetrics, 1, "empty line");
    bad("a  1", Dialect::OpenMetrics, 3, "expected a value");
    bad(" a 1", Dialect::OpenMetrics, 1, "expected a metric name");
    bad("a 1 ", Dialect::OpenMetrics, 5, "blank at the end of the line");
    bad("a 1 # x", Dialect::OpenMetrics, 7, "expected the labels of an exemplar");
    bad("# nothing", Dialect::OpenMetrics, 1, "expected # HELP, # TYPE, # UNIT or # EOF");
}

#[test]
fn numbers_are_those_of_prometheus() {
    for (text, v) in
        [("1", 1.0), ("+.5e-3", 0.0005), ("-inf", f64::NEG_INFINITY), ("Infinity", f64::INFINITY), ("0x", -1.0)]
    {
        assert_eq!(number(text).unwrap_or(-1.0), v, "{text}");
    }
    for text in ["", "+", "-NaN", "0x1p3", "1_000", "1e999", "١", "1,0", "e5"] {
        assert!(number(text).is_err(), "{text}");
    }
    assert_eq!(number("nAn").unwrap().to_bits(), f64::NAN.to_bits());
}

const PATH: &str = "/api/v1/import/prometheus";

#[tokio::test]
async fn good_lines_are_kept_and_the_bad_are_told_by_line_and_column() {
    let rig = Rig::new(|_| {});
    let body = b"# TYPE a counter\n# HELP a An \\\\ a.\na{x=\"1\"} 1\na{x=\xff\"1\"} 1\nb{\xc3\xa9=\"1\"} 1\nc{x=\"1\",x=\"2\"} 1\nd 2 7";
    let (status, text) = rig.post(PATH, body.to_vec()).await;
    assert_eq!(status, 400);
    let expect = "3 rejected, 2 samples written: line 4: column 5: not valid UTF-8; line 5: column 3: expected a label name or }; \
                  line 6: {__name__=\"c\", x=\"1\", x=\"2\"}: duplicate label name \"x\"\n";
    assert_eq!(text, expect);
    let content = rig.content();
    assert_eq!(content.series["a{x=\"1\"}"], [Sample { t: NOW_MS, v: 1.0 }]);
    assert_eq!(content.series["d"], [Sample { t: 7, v: 2.0 }]);
    assert_eq!(content.series.len(), 2);
    let metadata = &content.metadata[0];
    assert_eq!(
        (metadata.family.as_str(), metadata.kind, metadata.help.as_str()),
        ("a", MetricType::Counter, "An \\ a.")
    );
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["text", "syntax"]), 2.0);
    assert_eq!(rig.metric("weir_ingest_rejected_samples_total", &["text", "labels"]), 1.0);
}

#[tokio::test]
async fn parameters_add_labels_and_a_time() {
    let rig = Rig::new(|_| {});
    let path = format!("{PATH}?extra_label=job=a%20b&extra_label=x=9&timestamp=5");
    assert_eq!(rig.post(&path, "a{x=\"1\"} 1\nb 2 6\n").await, (204, String::new()));
    let content = rig.content();
    assert_eq!(content.series["a{job=\"a b\", x=\"9\"}"], [Sample { t: 5, v: 1.0 }]);
    assert_eq!(content.series["b{job=\"a b\", x=\"9\"}"], [Sample { t: 6, v: 2.0 }]);
    for query in ["extra_label=x", "extra_label==x", "extra_label=__name__=x", "timestamp=1.5", "extra_lable=a=b"] {
        let (status, text) = rig.post(&format!("{PATH}?{query}"), "a 1\n").await;
        assert_eq!(status, 400, "{query}: {text}");
    }
}

#[tokio::test]
async fn open_metrics_must_end_and_has_exemplars() {
    let rig = Rig::new(|_| {});
    let send = |body: &'static str| {
        let request = Request::post(PATH).header("content-type", "application/openmetrics-text; version=1.0.0");
        rig.send(request.body(Body::from(body)).unwrap())
    };
    let body = "# UNIT a_s s\na_s 1 5 # {} 1\na_s{x=\"1\"} 1 5 # {t=\"a\\\"b\",s=\"2\"} 0.5 4.5\na_s 1 # {t=\"1\",t=\"2\"} 1\n# EOF\n";
    assert_eq!(send(body).await, (204, String::new()));
    let exemplar = |t, v, pairs: &[(&str, &str)]| Exemplar::new(t, v, pairs).unwrap();
    let content = rig.content();
    assert_eq!(content.exemplars["a_s"], [exemplar(5000, 1.0, &[])], "of the time of its sample");
    assert_eq!(content.exemplars["a_s{x=\"1\"}"], [exemplar(4500, 0.5, &[("s", "2"), ("t", "a\"b")])]);
    assert_eq!((content.exemplars.len(), content.samples()), (2, 3));
    assert_eq!(rig.metric("weir_ingest_exemplars_total", &[]), 2.0);
    assert_eq!(rig.metric("weir_ingest_rejected_exemplars_total", &["labels"]), 1.0);
    assert_eq!(rig.content().metadata[0].unit, "s");
    let (status, text) = send("a 1\n").await;
    let expect = "1 rejected, 1 samples written: line 2: expected # EOF; is the body cut off?\n";
    assert_eq!((status, text.as_str()), (400, expect));
    assert_eq!(send("# EOF\na 1\n").await.0, 400);
    let request = Request::post(PATH).header("content-type", "application/json").body(Body::from("a 1\n")).unwrap();
    assert_eq!(rig.send(request).await.0, 415);
}

#[tokio::test]
async fn samples_out_of_the_window_are_told() {
    let rig = Rig::new(|args| args.sample_age_max_ms = Some(1000));
    let (old, new) = (NOW_MS - 1001, NOW_MS + 600_001);
    let (status, text) = rig.post(PATH, format!("a 1 {old}\nb 1\nc 1 {new}\n")).await;
    assert_eq!(status, 400);
    assert!(text.starts_with("2 rejected, 1 samples written: line 1: timestamp 1699999998999 is older"), "{text}");
    assert!(text.contains("line 3: timestamp 1700000600001 is too far in the future"), "{text}");
    let request = Request::post(PATH).header("content-type", "application/openmetrics-text; version=1.0.0");
    let body = "a 1 5 # {} 1\na 1 # {} 1 5\na 1 # {} 1 5000000000\na 1 # {} 1\n# EOF\n";
    assert_eq!(rig.send(request.body(Body::from(body)).unwrap()).await.0, 400);
    assert_eq!(rig.content().exemplars["a"], [Exemplar::new(NOW_MS, 1.0, &[]).unwrap()]);
    assert_eq!(rig.metric("weir_ingest_rejected_exemplars_total", &["too_old"]), 2.0);
    assert_eq!(rig.metric("weir_ingest_rejected_exemplars_total", &["too_new"]), 1.0);
}

fn quote(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_labels_survive_the_line(
        name in "[^\n\r]{1,8}", labels in prop::collection::vec((".{1,6}", ".{0,8}"), 0..4), bits: u64, t: i64,
    ) {
        let v = f64::from_bits(bits);
        let written: String = labels.iter().map(|(n, v)| format!(", \"{}\"=\"{}\"", quote(n), quote(v))).collect();
        let line = format!("{{\"{}\"{written}}} {v:?} {t}", quote(&name));
        let (pairs, parsed) = read(&line, Dialect::Classic).expect("well formed");
        let mut expect = vec![("__name__".to_owned(), name)];
        expect.extend(labels);
        prop_assert_eq!(pairs, expect);
        let Line::Sample { v: got, t: got_t, .. } = parsed else { panic!("a sample") };
        prop_assert_eq!(got_t, Some(t));
        prop_assert!(got.to_bits() == v.to_bits() || (got.is_nan() && v.is_nan()));
    }

    #[test]
    fn no_line_makes_the_parser_panic(line in "[a{}\"\\\\=, #1é\t.]{0,24}", open: bool) {
        let _ = read(&line, if open { Dialect::OpenMetrics } else { Dialect::Classic });
        let _ = read(&format!("# TYPE {line}"), Dialect::Classic);
    }
}
