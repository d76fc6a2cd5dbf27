//! Remote write 2.0, by an encoder of the tests' own.

use super::histograms::{custom, double, integer, message as histogram, number};
use super::*;
use crate::remote_write::request::{self, family};
use model::Exemplar;

pub(super) const CONTENT_TYPE: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

/// Gathers symbols.
pub(super) struct Symbols(pub(super) Vec<String>);

impl Symbols {
    pub(super) fn new() -> Self {
        Symbols(vec![String::new()])
    }

    fn number(&mut self, text: &str) -> u64 {
        let at = self.0.iter().position(|known| known == text).unwrap_or_else(|| {
            self.0.push(text.to_owned());
            self.0.len() - 1
        });
        at as u64
    }

    pub(super) fn refs(&mut self, labels: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for text in labels.iter().flat_map(|(name, value)| [name, value]) {
            varint(self.number(text), &mut out);
        }
        bytes(1, &out)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        self.0.iter().flat_map(|text| bytes(4, text.as_bytes())).collect()
    }
}

fn sample(t: i64, v: f64, start: i64) -> Vec<u8> {
    let start = if start == 0 { Vec::new() } else { number(3, start as u64) };
    bytes(2, &[double(1, v), number(2, t as u64), start].concat())
}

fn metadata(kind: u64, help: u64, unit: u64) -> Vec<u8> {
    bytes(5, &[number(1, kind), number(3, help), number(4, unit)].concat())
}

fn series(parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(5, &parts.concat())
}

#[tokio::test]
async fn samples_starts_histograms_and_metadata_are_written_and_counted() {
    let rig = Rig::new(|_| {});
    let mut symbols = Symbols::new();
    let (help, unit) = (symbols.number("Time."), symbols.number("seconds"));
    let exemplar = bytes(4, &[bytes(1, &[1, 2]), double(2, 1.0), number(3, 7)].concat());
    let mut started = custom(5);
    started.start = 3;
    let all = [
        series(&[
            symbols.refs(&[("job", "b"), ("__name__", "x_count")]),
            sample(5, 1.0, 2),
            sample(6, 2.0, 0),
            metadata(3, help, unit),
        ]),
        series(&[
            symbols.refs(&[("__name__", "x"), ("job", "b")]),
            bytes(3, &histogram(&started)),
            exemplar,
            metadata(3, help, unit),
        ]),
        series(&[symbols.refs(&[("__name__", "h"), ("empty", "")]), bytes(3, &histogram(&integer(5)))]),
    ];
    // The symbols may come last, and fields that nobody knows yet anywhere.
    let unknown = [number(99, 1), bytes(98, b"?")].concat();
    for message in [[symbols.write(), all.concat()].concat(), [unknown, all.concat(), symbols.write()].concat()] {
        let rig = Rig::new(|_| {});
        assert_eq!(send_as(&rig, CONTENT_TYPE, &message).await, (204, String::new(), Some([2, 2, 1])));
        let content = rig.content();
        assert_eq!(content.series["x_count{job=\"b\"}"], [Sample { t: 5, v: 1.0 }, Sample { t: 6, v: 2.0 }]);
        assert_eq!(content.starts["x_count{job=\"b\"}"], [2, 0]);
        assert_eq!(content.histograms["x{job=\"b\"}"], [started.clone()]);
        assert_eq!(content.histograms["h"], [integer(5)]);
        let told = content.metadata.iter().map(|m| (m.family.as_str(), m.kind, m.help.as_str(), m.unit.as_str()));
        assert_eq!(told.collect::<Vec<_>>(), [("x", MetricType::Histogram, "Time.", "seconds")], "told once");
        assert_eq!(rig.metric("weir_ingest_samples_total", &["remote_write"]), 4.0);
        let labels = [(symbols.0[1].as_str(), symbols.0[2].as_str())];
        assert_eq!(content.exemplars["x{job=\"b\"}"], [Exemplar::new(7, 1.0, &labels).unwrap()]);
        assert_eq!(rig.metric("weir_ingest_exemplars_total", &[]), 1.0);
    }
    assert_eq!(send_as(&rig, CONTENT_TYPE, b"").await, (204, String::new(), Some([0; 3])));
    let quoted = "application/x-protobuf; Proto=\"io.prometheus.write.v2.Request\"";
    assert_eq!(send_as(&rig, quoted, &symbols.write()).await, (204, String::new(), Some([0; 3])));
}

#[tokio::test]
async fn bad_series_are_told_and_the_good_ones_written() {
    let rig = Rig::new(|args| args.sample_age_max_ms = Some(1000));
    let mut symbols = Symbols::new();
    let a = symbols.refs(&[("__name__", "a")]);
    let mut wrong = integer(NOW_MS);
    wrong.histogram.sum = 1.0;
    wrong.histogram.layout = Default::default();
    let now = || sample(NOW_MS, 1.0, 0);
    let message = [
        series(&[a.clone(), sample(NOW_MS - 1001, 1.0, 7), sample(NOW_MS, 2.0, 8), bytes(3, &histogram(&wrong))]),
        series(&[symbols.refs(&[("x", "1")]), now()]),
        series(&[bytes(1, &[1]), now()]),
        series(&[bytes(1, &[1, 99]), now()]),
        series(&[number(1, 1), number(1, symbols.0.len() as u64), now()]),
        series(&[now()]),
    ];
    let not_text = bytes(4, b"\xff");
    let message = [symbols.write(), not_text, message.concat()].concat();
    let (status, text, written) = send_as(&rig, CONTENT_TYPE, &message).await;
    assert_eq!((status, written), (400, Some([1, 0, 0])));
    let expect = "7 rejected, 1 samples written: \
        series 0: {__name__=\"a\"}: sample at 1699999998999 is older than the retention allows (1699999999000); \
        series 0: {__name__=\"a\"}: native histogram is not valid: positive spans are of 0 buckets, and there are 3; \
        series 1: {x=\"1\"}: no metric name; \
        series 2: a label's name refers to a symbol, and its value to none; \
        series 3: a label refers to a symbol that is not there; series 4: a label is not valid UTF-8; \
        series 5: {}: a series needs at least one label\n";
    assert_eq!(text, expect);
    assert_eq!(rig.content().series["a"], [Sample { t: NOW_MS, v: 2.0 }]);
    assert_eq!(rig.content().starts["a"], [8]);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_a_whole_with_the_place() {
    let rig = Rig::new(|_| {});
    let symbols = Symbols::new().write();
    let check = async |message: &[u8], expect: &str| {
        let message = [&symbols, message].concat();
        let (status, text, written) = send_as(&rig, CONTENT_TYPE, &message).await;
        let expect = format!("body is not a io.prometheus.write.v2.Request: {expect}\n");
        assert_eq!((status, text, written), (400, expect, Some([0; 3])));
    };
    check(&number(4, 1), "wrong wire type of a symbol at byte 4").await;
    check(&number(5, 1), "wrong wire type of a series at byte 4").await;
    check(&[42, 9, 1], "field is longer than its message at byte 4").await;
    check(&series(&[number(2, 1)]), "wrong wire type of a field of a series at byte 6").await;
    check(&series(&[bytes(2, &number(1, 1))]), "wrong wire type of a field of a sample at byte 8").await;
    check(&series(&[bytes(5, &double(1, 1.0))]), "wrong wire type of a field of metadata at byte 15").await;
    let rig = Rig::new(|_| {});
    let (status, text, _) = send_as(&rig, CONTENT_TYPE, &bytes(4, b"a")).await;
    let expect = "body is not a io.prometheus.write.v2.Request: the first symbol is not the empty text at byte 2\n";
    assert_eq!((status, text.as_str()), (400, expect));
    assert_eq!(rig.content().samples(), 0);
}

#[test]
fn a_series_has_as_many_starts_as_samples_or_none_and_a_bound_of_labels() {
    let mut staging = Staging::new(1);
    let mut symbols = Symbols::new();
    let name = symbols.refs(&[("__name__", "m")]);
    // More than are encoded at once, of which the last have a start.
    let samples: Vec<u8> = (0..40_000).flat_map(|t| sample(t, 1.0, t / 39_999)).collect();
    let many = series(&[bytes(1, &vec![0; 70_000]), sample(1, 1.0, 0)]);
    let message = [symbols.write(), series(&[name, samples]), many].concat();
    let outcome = stage(Message::Request, &message, &mut staging, Window::ALL).expect("well formed");
    assert_eq!(outcome.told, [(1, "more labels than fit their bytes".to_owned())]);
    let content = Content::of(&staging.finish(), 1);
    let starts: Vec<i64> = (0..40_000).map(|t| t / 39_999).collect();
    assert_eq!(content.starts["m"], starts);
    let mut points = crate::remote_write::points::Points::default();
    (0..4).for_each(|t| points.push(Sample { t, v: 0.0 }, t));
    points.cut(Window { oldest_ms: 1, newest_ms: 2 }, &mut Default::default(), &mut Default::default());
    assert_eq!(points.starts, [1, 2]);
}

#[tokio::test]
async fn symbols_count_as_bytes_in_flight() {
    let rig = Rig::new(|args| args.ingest_inflight_bytes_max = Some(1 << 16));
    let (status, text, written) = send_as(&rig, CONTENT_TYPE, &bytes(4, b"").repeat(5000)).await;
    assert_eq!((status, written), (503, Some([0; 3])), "{text}");
    assert_eq!(rig.metric("weir_ingest_inflight_bytes", &[]), 0.0);
}

#[test]
fn metadata_that_is_repeated_is_staged_once_a_minute() {
    let mut staging = Staging::new(1);
    let mut staged = |help: &str, now_ms: i64| {
        staging.repeat_metadata("up", MetricType::Gauge, help, "", now_ms);
        Content::of(&staging.finish(), 1).metadata.len()
    };
    assert_eq!(
        [staged("a", 0), staged("a", 1), staged("b", 2), staged("a", 59_999), staged("a", 60_000)],
        [1, 0, 1, 0, 1]
    );
    assert_eq!([staged("a", 60_001), staged("a", -10)], [0, 1], "a clock that was set back");
}

#[test]
fn classic_series_belong_to_the_family_of_their_histogram_or_summary() {
    let check = |name, kind, expect| assert_eq!(family(name, kind), expect);
    check("x_bucket", MetricType::Histogram, "x");
    check("x_sum", MetricType::Summary, "x");
    check("x_bucket", MetricType::Summary, "x_bucket");
    check("x_gsum", MetricType::GaugeHistogram, "x");
    check("x_count", MetricType::Counter, "x_count");
    check("_count", MetricType::Histogram, "_count");
}

fn go_through(message: &[u8]) {
    let Ok(mut reader) = request::count_symbols(message).and_then(|count| request::Reader::new(message, count)) else {
        return;
    };
    let mut series = request::Series::default();
    while let Ok(true) = reader.next(&mut series) {}
}

type Drawn = Vec<(Vec<(String, String)>, Vec<(i64, u64, i64)>)>;

fn drawn() -> impl Strategy<Value = Drawn> {
    let labels = prop::collection::btree_map("[a-z_é]{1,4}", "(.{1,9}|x{120,140})", 0..5);
    let start = prop_oneof![Just(0i64), any::<i64>()];
    let samples = prop::collection::vec((any::<i64>(), any::<u64>(), start), 1..4);
    prop::collection::vec((labels.prop_map(|labels| labels.into_iter().collect()), samples), 0..8)
}

fn message_of(drawn: &Drawn) -> Vec<u8> {
    let mut symbols = Symbols::new();
    let mut all = Vec::new();
    for (at, (labels, samples)) in drawn.iter().enumerate() {
        let at = at.to_string();
        let mut labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        labels.extend([("__name__", "m"), ("Place", &at)]);
        let samples = samples.iter().flat_map(|(t, bits, start)| sample(*t, f64::from_bits(*bits), *start));
        all.extend(series(&[symbols.refs(&labels), samples.collect(), vec![0x78, 0x80, 1]]));
    }
    [symbols.write(), all].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_encoded_is_staged(drawn in drawn()) {
        let mut staging = Staging::new(3);
        let outcome = stage(Message::Request, &message_of(&drawn), &mut staging, Window::ALL).expect("well formed");
        prop_assert_eq!(outcome.refused, 0, "{:?}", outcome.told);
        let content = Content::of(&staging.finish(), 3);
        prop_assert_eq!(content.series.len(), drawn.len());
        for (at, (labels, samples)) in drawn.iter().enumerate() {
            let mut labels = labels.clone();
            labels.extend([("__name__".to_owned(), "m".to_owned()), ("Place".to_owned(), at.to_string())]);
            let labels = model::Labels::new(&labels).expect("unique").to_string();
            let floats: Vec<Sample> = samples.iter().map(|(t, v, _)| Sample { t: *t, v: f64::from_bits(*v) }).collect();
            let starts: Vec<i64> = samples.iter().map(|(_, _, start)| *start).collect();
            prop_assert_eq!((&content.series[&labels], &content.starts[&labels]), (&floats, &starts));
        }
    }

    #[test]
    fn a_message_that_is_cut_or_changed_never_panics(drawn in drawn(), at: prop::sample::Index, byte: u8) {
        let mut message = message_of(&drawn);
        let at = at.index(message.len());
        go_through(&message[..at]);
        message[at] = byte;
        go_through(&message);
        let _ = stage(Message::Request, &message, &mut Staging::new(2), Window::ALL);
    }

    #[test]
    fn random_bytes_never_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
        go_through(&message);
        go_through(&bytes(5, &message));
        let symbols = Symbols::new().write();
        let _ = stage(Message::Request, &[symbols, bytes(5, &message)].concat(), &mut Staging::new(2), Window::ALL);
    }
}
