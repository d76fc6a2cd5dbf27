//! The bytes of the wire, fixed; what is damaged or cut is never read as something else.

mod outlines;

use bytes::Bytes;
use model::{
    Buckets, Cancel, Cardinality, CardinalityRequest, Classes, Columns, CountRequest, Counts, Exemplar,
    ExemplarsRequest, Histogram, HistogramSample, Kind, Labels, LabelsRequest, MatchOp, Matcher, Metadata, MetricType,
    Positions, SelectRequest, SeriesData, SeriesExemplars, SourceError, Tally, TimeRange, Want,
};
use proptest::prelude::*;
use tsdb::Newest;

use super::answer::{self, Answer, Begin, Step};
use super::frame::{Assembler, FrameKind, frame};
use super::question::{self, Counted, Question};
use super::series::SeriesWriter;
use crate::replica::Replica;
use crate::{Changes, ChangesRequest, Mark};

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).expect("valid")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn begin() -> Bytes {
    Begin { replica: Replica { number: 1, of: 3, copies: 2 }, partitions: 300 }.encode()
}

/// Reads an answer that arrives in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> Result<Answer, String> {
    let (mut assembler, mut answer) = (Assembler::default(), Answer::default());
    for piece in bytes.chunks(piece) {
        assembler.push(piece);
        while let Some(frame) = assembler.next()? {
            match answer.take(frame)? {
                Step::More => {}
                Step::Whole => return Ok(answer),
                Step::Failed(error) => return Err(error.message),
            }
        }
    }
    Err("cut off".to_owned())
}

fn samples(data: &impl SeriesData, range: TimeRange) -> Vec<(i64, u64)> {
    let mut out = Columns::default();
    data.read(range, &mut out).expect("reads");
    out.t.into_iter().zip(out.v.into_iter().map(f64::to_bits)).collect()
}

fn select() -> SelectRequest {
    SelectRequest {
        matchers: vec![
            Matcher::equal("__name__", "up"),
            Matcher::new(MatchOp::NotRegex, "job", "a.*").expect("compiles"),
        ],
        range: TimeRange { start_ms: -1, end_ms: 64 },
        want: Want::Samples,
        series_max: 300,
        cancel: Cancel::default(),
    }
}

#[test]
fn questions_are_golden() {
    let check = |question: &Question<'_>, path: &str, expect: &str| {
        assert_eq!((question.path(), hex(&question.encode())), (path, expect.to_owned()));
    };
    let request = select();
    let expect = "01 80 01 01 ac 02 02 00 08 5f 5f 6e 61 6d 65 5f 5f 02 75 70 03 03 6a 6f 62 03 61 2e 2a";
    check(&Question::Select(&request), "/select", expect);
    let request = LabelsRequest {
        matcher_sets: vec![vec![Matcher::equal("a", "b")], vec![]],
        range: TimeRange::ALL,
        cancel: Cancel::default(),
    };
    let all = format!("{}{}", "ff ".repeat(9) + "01 ", "fe ".to_owned() + &"ff ".repeat(8) + "01");
    let sets = "02 01 00 01 61 01 62 00";
    check(&Question::LabelNames(&request), "/label-names", &format!("{all} {sets}"));
    check(&Question::LabelValues("job", &request), "/label-values", &format!("03 6a 6f 62 {all} {sets}"));
    check(&Question::Metadata(None), "/metadata", "00");
    check(&Question::Metadata(Some("up")), "/metadata", "01 02 75 70");
    let request = ExemplarsRequest {
        matcher_sets: vec![vec![Matcher::equal("a", "b")]],
        range: TimeRange { start_ms: -1, end_ms: 64 },
        exemplars_max: 300,
        cancel: Cancel::default(),
    };
    check(&Question::Exemplars(&request), "/exemplars", "ac 02 01 80 01 01 01 00 01 61 01 62");
    let within = std::time::Duration::from_millis(300);
    check(&Question::CaughtUp(within, &Positions::default()), "/caught-up", "ac 02");
    let positions = [(3, 64), (1, 0)].into_iter().collect();
    check(&Question::CaughtUp(within, &positions), "/caught-up", "ac 02 02 01 00 03 80 01");
    let range = TimeRange { start_ms: -1, end_ms: 64 };
    let mut request = ChangesRequest { since: None, names: None, range, cancel: Cancel::default() };
    check(&Question::Changes(&request), "/changes", "01 80 01 00 00");
    request.since = Some(Mark(vec![(5, 300)]));
    request.names = Some(vec!["up".to_owned()]);
    check(&Question::Changes(&request), "/changes", "01 80 01 01 01 05 ac 02 01 01 02 75 70");
    let request = CardinalityRequest {
        matcher_sets: vec![vec![Matcher::equal("a", "b")]],
        range: TimeRange { start_ms: -1, end_ms: 64 },
        classes: Classes { partitions: 0, modulus: 3 },
        series_max: 300,
        cancel: Cancel::default(),
    };
    check(&Question::Cardinality(&request), "/cardinality", "ac 02 03 01 80 01 01 01 00 01 61 01 62");
    let mut request = CountRequest {
        matchers: vec![Matcher::equal("a", "b")],
        range: TimeRange { start_ms: -1, end_ms: 64 },
        by: None,
        cancel: Cancel::default(),
    };
    check(&Question::Count(&request, Counted::Numbers), "/count", "00 01 80 01 00 01 00 01 61 01 62");
    request.by = Some("l".to_owned());
    check(&Question::Count(&request, Counted::Newest), "/count", "01 01 80 01 01 01 6c 01 00 01 61 01 62");
    check(&Question::Backlog, "/backlog", "");
}

#[test]
fn questions_are_read_as_they_were_asked() {
    let request = select();
    let read = question::select(&Question::Select(&request).encode(), Cancel::default()).expect("reads");
    assert_eq!((&read.matchers, read.range, read.want), (&request.matchers, request.range, request.want));
    assert_eq!(read.series_max, request.series_max);
    let request =
        LabelsRequest { matcher_sets: vec![vec![], request.matchers], range: TimeRange::ALL, cancel: read.cancel };
    let (name, read) =
        question::label_values(&Question::LabelValues("é", &request).encode(), Cancel::default()).expect("reads");
    assert_eq!((name.as_str(), &read.matcher_sets, read.range), ("é", &request.matcher_sets, request.range));
    let asked = ExemplarsRequest {
        matcher_sets: read.matcher_sets,
        range: TimeRange { start_ms: 1, end_ms: 2 },
        exemplars_max: 7,
        cancel: read.cancel,
    };
    let read = question::exemplars(&Question::Exemplars(&asked).encode(), Cancel::default()).expect("reads");
    assert_eq!((&read.matcher_sets, read.range, read.exemplars_max), (&asked.matcher_sets, asked.range, 7));
    let asked = CardinalityRequest {
        matcher_sets: read.matcher_sets,
        range: read.range,
        classes: Classes { partitions: 0, modulus: 3 },
        series_max: 7,
        cancel: read.cancel,
    };
    let read = question::cardinality(&Question::Cardinality(&asked).encode(), 12, Cancel::default()).expect("reads");
    assert_eq!((&read.matcher_sets, read.range, read.series_max), (&asked.matcher_sets, asked.range, 7));
    assert_eq!(read.classes, Classes { partitions: 12, modulus: 3 }, "the partitions are those of who is asked");
    assert_eq!(question::metadata(&Question::Metadata(Some("up")).encode()), Ok(Some("up".to_owned())));
    assert_eq!(question::metadata(&[0]), Ok(None));
    let within = std::time::Duration::from_millis(300);
    for positions in [Positions::default(), [(3, 64), (1, 0)].into_iter().collect()] {
        let body = Question::CaughtUp(within, &positions).encode();
        assert_eq!(question::caught_up(&body), Ok((within, positions)));
    }
    let names = Some(vec!["up".to_owned(), String::new()]);
    let since = Some(Mark(vec![(u64::MAX, 1)]));
    let asked = ChangesRequest { since, names, range: TimeRange::ALL, cancel: Cancel::default() };
    let read = question::changes(&Question::Changes(&asked).encode(), Cancel::default()).expect("reads");
    assert_eq!((read.since, read.names, read.range), (asked.since, asked.names, asked.range));
    for (by, counted) in [(None, Counted::Newest), (Some(String::new()), Counted::Numbers)] {
        let asked = CountRequest { matchers: select().matchers, range: TimeRange::ALL, by, cancel: Cancel::default() };
        let (read, as_asked) =
            question::count(&Question::Count(&asked, counted).encode(), Cancel::default()).expect("reads");
        assert_eq!((read.matchers, read.range, read.by), (asked.matchers, asked.range, asked.by));
        assert_eq!(as_asked, counted);
    }
}

#[test]
fn changes_come_as_they_are() {
    let (mark, ranges) =
        (Mark(vec![(7, 300), (u64::MAX, 0)]), vec![TimeRange::ALL, TimeRange { start_ms: 1, end_ms: 2 }]);
    let frames = [begin(), answer::changes(&mark, &ranges), answer::end(0, 0)].concat();
    let answer = read(&frames, 3).expect("reads");
    assert_eq!(answer.changes, Some(Changes { mark: Some(mark), ranges }));
}

#[test]
fn a_question_that_cannot_be_read_is_refused_with_the_place() {
    let whole = Question::Select(&select()).encode();
    for end in 0..whole.len() {
        let error = question::select(&whole[..end], Cancel::default()).expect_err("cut").to_string();
        assert!(error.starts_with("the question cannot be read at byte "), "{error}");
    }
    let check = |body: &[u8], expect: &str| {
        assert_eq!(question::metadata(body).expect_err("refused"), expect);
    };
    check(&[0, 0], "the question cannot be read at byte 1: there is more than was expected");
    check(&[7], "the question cannot be read at byte 1: which families are wanted is not known");
    check(&[1, 2, b'a'], "the question cannot be read at byte 2: ends too early");
    check(&[1, 1, 0xff], "the question cannot be read at byte 3: a text is not UTF-8");
    let mut bad = Question::Select(&select()).encode();
    let last = bad.len() - 3;
    bad[last] = b'(';
    let error = question::select(&bad, Cancel::default()).expect_err("refused");
    assert!(error.contains("invalid regular expression \"(.*\""), "{error}");
}

#[test]
fn frames_are_golden() {
    assert_eq!(hex(&begin()), "05 00 00 00 7a 03 9b f4 00 01 03 02 ac 02");
    let mut writer = SeriesWriter::default();
    writer.push(&labels(&[("a", "b")]), &Columns::floats(vec![1000, 2000, 3000], vec![1.0, 1.0, 1.0]), &[]);
    writer.push(&labels(&[("a", "c")]), &Columns::default(), &[]);
    let frames = writer.finish();
    assert_eq!(frames.len(), 1);
    assert_eq!(
        hex(&frames[0]),
        "1d 00 00 00 30 d4 b0 2c 01 00 04 01 61 01 62 03 10 03 d0 0f 0d e8 07 02 00 00 00 00 00 00 00 f0 3f 03 01 63 00 00"
    );
    let check = |frame: Bytes, expect: &str| assert_eq!(hex(&frame[8..]), expect);
    check(answer::texts(&["a".to_owned(), String::new()]).remove(0), "02 01 61 00");
    let up = Metadata { family: "up".into(), kind: MetricType::Gauge, help: "h".into(), unit: String::new() };
    check(answer::metadata(&[up]).remove(0), "03 02 75 70 05 67 61 75 67 65 01 68 00");
    check(answer::warnings(&["w".to_owned()]).remove(0), "04 01 77");
    check(answer::backlog(300), "05 ac 02");
    let exemplars = vec![Exemplar::new(-1, 0.5, &[("t", "é")]).expect("valid")];
    let one = SeriesExemplars { series: labels(&[("a", "b")]), exemplars };
    let expect = "08 04 01 61 01 62 01 01 00 00 00 00 00 00 e0 3f 05 01 74 02 c3 a9";
    check(answer::exemplars(&[one]).remove(0), expect);
    let mut tally = Tally { chunks: 300, ..Tally::default() };
    tally.add(labels(&[("a", "b")]).as_ref());
    let range = Some(TimeRange { start_ms: -1, end_ms: 64 });
    let counted = Cardinality { tallies: [(2, tally)].into(), range, warnings: vec![] };
    let mut frames = answer::cardinality(&counted);
    check(frames.remove(1), "0a 02 01 61 01 62 01");
    check(frames.remove(0), "0b 01 01 80 01 02 01 ac 02");
    check(answer::cardinality(&Cardinality::default()).remove(0), "0b 00");
    let frames = answer::counts([("a", 300), ("", 1)].into_iter());
    check(frames[0].clone(), "0d 01 61 ac 02 00 01");
    check(answer::counts(std::iter::empty()).remove(0), "0d");
    let one = |t, is_live| Newest { hash: 0x0102_0304_0506_0708, t, group: 1, is_live };
    let expect = "0e d0 0f 08 07 06 05 04 03 02 01 03 c8 01 08 07 06 05 04 03 02 01 02 01";
    check(newest(&[one(1100, true), one(999, false)], 1000).remove(0), expect);
    check(answer::end(2, 300), "06 02 ac 02");
    let error = SourceError { kind: Kind::Corrupt, message: "bad".to_owned() };
    check(answer::error(&error), "07 03 03 62 61 64");
}

fn whole() -> Vec<u8> {
    let mut writer = SeriesWriter::default();
    writer.push(&labels(&[("a", "b")]), &Columns::floats(vec![1, 2, 3], vec![0.5, -0.0, f64::NAN]), &[]);
    writer.push(&labels(&[("a", "bc")]), &Columns::floats(vec![9], vec![1.0]), &[]);
    let mut frames = vec![begin()];
    frames.extend(answer::warnings(&["w".to_owned()]));
    frames.extend(writer.finish());
    frames.push(answer::end(2, 4));
    frames.concat()
}

#[test]
fn an_answer_is_read_from_pieces_of_any_size() {
    for piece in [1, 2, 7, 1000] {
        let answer = read(&whole(), piece).expect("whole");
        assert_eq!(answer.begin.expect("told").partitions, 300);
        assert_eq!(answer.warnings, ["w"]);
        let names: Vec<&str> = answer.series.iter().map(|(labels, _)| labels.get("a").expect("has it")).collect();
        assert_eq!(names, ["b", "bc"]);
        let first = &answer.series[0].1;
        let bits = |t, v: f64| (t, v.to_bits());
        assert_eq!(samples(first, TimeRange::ALL), [bits(1, 0.5), bits(2, -0.0), bits(3, f64::NAN)]);
        assert_eq!(samples(first, TimeRange { start_ms: 2, end_ms: 2 }), [bits(2, -0.0)]);
        assert_eq!(samples(first, TimeRange { start_ms: 4, end_ms: 9 }), []);
    }
}

#[test]
fn a_cut_or_damaged_answer_is_never_taken_for_a_whole_one() {
    let whole = whole();
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end], 1000).expect_err("not whole"), "cut off", "at {end}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        read(&damaged, 1000).expect_err(&format!("byte {at} is wrong"));
    }
}

#[test]
fn a_missing_frame_is_noticed() {
    let mut writer = SeriesWriter::default();
    writer.push(&labels(&[("a", "b")]), &Columns::floats(vec![1], vec![1.0]), &[]);
    let series = writer.finish().concat();
    let check = |frames: &[&[u8]], expect: &str| {
        assert_eq!(read(&frames.concat(), 1000).expect_err("refused"), expect);
    };
    check(&[&begin(), &answer::end(1, 1)], "a frame is missing");
    check(&[&begin(), &series, &answer::end(1, 2)], "a frame is missing");
    check(&[&series, &answer::end(1, 1)], "the first frame and no other says who answers");
    check(&[&begin(), &begin()], "the first frame and no other says who answers");
    check(&[&begin(), &series, &series, &answer::end(1, 1)], "a frame is missing");
    let other = frame(FrameKind::Series, |out| out.extend_from_slice(&[0, 1, 0, 0, 0]));
    check(&[&begin(), &series, &other], "series do not ascend");
}

#[test]
fn a_series_that_is_larger_than_a_frame_goes_on_in_the_next() {
    // A full mantissa each, so that every sample takes its eight bytes.
    let v: Vec<f64> = (0..100_000u32).map(|n| f64::from(n).sqrt()).collect();
    let all = Columns::floats((0..100_000).collect(), v);
    let mut writer = SeriesWriter::default();
    writer.push(&labels(&[("a", "b")]), &all, &[]);
    writer.push(&labels(&[("a", "c")]), &Columns::floats(vec![1], vec![1.0]), &[]);
    let frames = writer.finish();
    assert!(frames.len() >= 5, "{} frames", frames.len());
    assert!(frames.iter().all(|frame| frame.len() < 200 << 10), "frames are bounded");
    let bytes = [vec![begin()], frames, vec![answer::end(2, 100_001)]].concat().concat();
    let answer = read(&bytes, 10_000).expect("whole");
    assert_eq!(answer.series.len(), 2);
    let mut out = Columns::default();
    answer.series[0].1.read(TimeRange::ALL, &mut out).expect("reads");
    assert_eq!(out, all);
}

fn histogram(t: i64, schema: i32) -> HistogramSample {
    let layout = model::Layout { schema, ..model::Layout::default() };
    let counts = Counts::Integer(Buckets { count: 2, zero: 2, ..Buckets::default() });
    let histogram = Histogram { layout: layout.into(), hint: model::ResetHint::Gauge, sum: 0.5, counts };
    HistogramSample { t, start: 1, histogram }
}

#[test]
fn histograms_and_starts_travel_with_the_floats() {
    let mut all = Columns::default();
    (0..3).for_each(|t| all.push_with_start(2 * t, 0.5, t));
    all.histograms = vec![histogram(1, 3), histogram(5, 3), histogram(6, 4)];
    let mut writer = SeriesWriter::default();
    writer.push(&labels(&[("a", "b")]), &all, &[]);
    writer.push(&labels(&[("a", "c")]), &Columns { histograms: all.histograms.clone(), ..Columns::default() }, &[]);
    let frames = [vec![begin()], writer.finish(), vec![answer::end(2, 9)]].concat();
    let answer = read(&frames.concat(), 100).expect("whole");
    let mut out = Columns::default();
    answer.series[0].1.read(TimeRange::ALL, &mut out).expect("reads");
    assert_eq!(out, all);
    answer.series[1].1.read(TimeRange { start_ms: 2, end_ms: 5 }, &mut out).expect("reads");
    assert_eq!((out.len(), out.histograms.len(), out.histograms[3].t), (3, 4, 5));
}

#[test]
fn what_floats_stand_for_travels_with_them() {
    let mut all = Columns::default();
    for (t, count) in [(1, 0), (2, 3), (6, 0)] {
        all.push(t, 0.5);
        let resolution_ms = if t > 1 { 10 } else { 0 };
        all.set_last_aggregate(model::Aggregate { count, resolution_ms, sum: f64::from(count) });
    }
    let mut writer = SeriesWriter::default();
    writer.push(&labels(&[("a", "b")]), &all, &[]);
    let frames = [vec![begin(), answer::resolution(10)], writer.finish(), vec![answer::end(1, 3)]].concat();
    let mut out = Columns::default();
    let answer = read(&frames.concat(), 100).expect("whole");
    assert_eq!(answer.resolution_ms, 10);
    answer.series[0].1.read(TimeRange::ALL, &mut out).expect("reads");
    assert_eq!(out, all);
}

#[test]
fn many_exemplars_come_in_several_frames_and_are_counted() {
    let exemplars = |n| (0..n).map(|t| Exemplar::new(t, 1.0, &[("t", &"x".repeat(127))]).expect("valid")).collect();
    let of = |name, n| SeriesExemplars { series: labels(&[("a", name)]), exemplars: exemplars(n) };
    let all = [of("b", 1), of("c", 3_000), of("d", 2)];
    let frames = answer::exemplars(&all);
    assert!(frames.len() > 2 && frames.iter().all(|frame| frame.len() < 256 << 10), "{} frames", frames.len());
    let whole = |count| [vec![begin()], answer::exemplars(&all), vec![answer::end(count, 0)]].concat().concat();
    assert_eq!(read(&whole(3_003), 10_000).expect("whole").exemplars, all);
    assert_eq!(read(&whole(3_002), 10_000).expect_err("refused"), "a frame is missing");
    let torn = frame(FrameKind::Exemplars, |out| out.extend_from_slice(&[4, 1, b'a', 1, b'b', 1, 0, 0, 0]));
    assert_eq!(read(&[begin(), torn].concat(), 100).expect_err("refused"), "ends too early");
}

#[test]
fn what_was_counted_comes_in_several_frames_and_each_pair_is_counted() {
    let mut tallies = std::collections::BTreeMap::<u32, Tally>::new();
    for n in 0..20_000 {
        let labels = labels(&[("n", &format!("{n:060}")), ("even", if n % 2 == 0 { "yes" } else { "no" })]);
        tallies.entry(n % 2).or_default().add(labels.as_ref());
    }
    let all = Cardinality { tallies, range: None, warnings: vec![] };
    let frames = answer::cardinality(&all);
    assert!(frames.len() > 8 && frames.iter().all(|frame| frame.len() < 256 << 10), "{} frames", frames.len());
    let whole = |count| [vec![begin()], answer::cardinality(&all), vec![answer::end(count, 0)]].concat().concat();
    let answer = read(&whole(20_002), 10_000).expect("whole");
    assert_eq!(answer.cardinality, all);
    assert!(answer.tally_bytes > 20_000 * 60, "what it takes is known");
    assert_eq!(read(&whole(20_001), 10_000).expect_err("refused"), "a frame is missing");
    let untold = [vec![begin()], answer::cardinality(&all).split_off(1)].concat().concat();
    assert_eq!(read(&untold, 10_000).expect_err("refused"), "a class is counted of which nothing was told");
}

#[test]
fn newest_samples_come_in_several_frames_and_are_counted() {
    let groups: Vec<String> = (0..3_000).map(|n| format!("{n:060}")).collect();
    let samples: Vec<Newest> = (0..30_000)
        .map(|n| Newest { hash: n * n, t: 5 - n as i64, group: n as u32 % 3_000, is_live: n % 7 > 0 })
        .collect();
    let counts = || answer::counts(groups.iter().map(|value| (value.as_str(), 10)));
    let frames = newest(&samples, 0);
    assert!(counts().len() > 1 && frames.len() > 2 && frames.iter().all(|frame| frame.len() < 256 << 10));
    let whole = |n| [vec![begin()], counts(), newest(&samples, 0), vec![answer::end(n, 0)]].concat().concat();
    let read_whole = read(&whole(33_000), 10_000).expect("whole");
    assert!(read_whole.newest == samples);
    assert_eq!(read_whole.counts.map(|counts| counts.len()), Some(3_000));
    assert!(read_whole.tally_bytes > 30_000 * size_of::<Newest>(), "what it takes is known");
    assert_eq!(read(&whole(32_999), 10_000).expect_err("refused"), "a frame is missing");
    let untold = [vec![begin()], newest(&samples, 0)].concat().concat();
    assert_eq!(read(&untold, 10_000).expect_err("refused"), "a series is of an unknown value");
    let nothing = [begin(), answer::end(0, 0)].concat();
    assert_eq!(read(&nothing, 100).expect("whole").counts, None, "it cannot tell");
    let none = [vec![begin()], answer::counts(std::iter::empty()), vec![answer::end(0, 0)]].concat().concat();
    assert_eq!(read(&none, 100).expect("whole").counts, Some(Vec::new()), "there are none");
}

fn any_series() -> impl Strategy<Value = Vec<(String, Vec<(i64, u64)>)>> {
    let samples = prop::collection::vec((any::<i32>().prop_map(i64::from), any::<u64>()), 0..40);
    prop::collection::vec(("[a-cé]{1,4}", samples), 0..20)
}

proptest! {
    #[test]
    fn what_is_written_is_read(series in any_series(), piece in 1usize..300) {
        let mut expect: Vec<(Labels, Vec<(i64, u64)>)> = Vec::new();
        for (name, mut samples) in series {
            samples.sort_by_key(|s| s.0);
            samples.dedup_by_key(|s| s.0);
            expect.push((labels(&[("n", &name)]), samples));
        }
        expect.sort_by(|a, b| a.0.canonical().cmp(b.0.canonical()));
        expect.dedup_by(|a, b| a.0 == b.0);
        let (mut writer, mut number) = (SeriesWriter::default(), 0);
        for (labels, samples) in &expect {
            let (t, v) = samples.iter().map(|(t, bits)| (*t, f64::from_bits(*bits))).unzip();
            writer.push(labels, &Columns::floats(t, v), &[]);
            number += samples.len() as u64;
        }
        let frames = [vec![begin()], writer.finish(), vec![answer::end(expect.len() as u64, number)]].concat();
        let answer = read(&frames.concat(), piece).expect("whole");
        let got: Vec<_> = answer.series.iter().map(|(l, data)| (l.clone(), samples(data, TimeRange::ALL))).collect();
        prop_assert_eq!(got, expect);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, 50);
        let _ = question::select(&bytes, Cancel::default());
        let _ = question::label_values(&bytes, Cancel::default());
        let _ = question::outlines(&bytes, Cancel::default());
        for kind in [FrameKind::Begin, FrameKind::Series, FrameKind::Texts, FrameKind::Metadata, FrameKind::End, FrameKind::Error] {
            let _ = read(&[begin(), frame(kind, |out| out.extend_from_slice(&bytes))].concat(), 50);
        }
        let entry = frame(FrameKind::Outlines, |out| {
            out.extend_from_slice(&[0, 0, 1]);
            super::fields::put_bytes(out, &bytes);
        });
        let answer = read(&[begin(), entry, answer::end(1, 1)].concat(), 50).expect("whole");
        let _ = answer.series[0].1.outline(&mut model::Outline::default());
    }
}

fn newest(series: &[Newest], base_ms: i64) -> Vec<Bytes> {
    answer::newest(series, base_ms).collect()
}
