//! Outlines on the wire: the question, and samples that stand for others.

use model::{Aggregate, Aspect, Edges, Outline};

use super::*;
use crate::wire::series::Form;

fn request(aspect: Aspect, edges: Vec<Edges>) -> SelectRequest {
    SelectRequest { want: Want::Outline { aspect, edges }, ..select() }
}

/// Edges of one window.
fn edges() -> Vec<Edges> {
    vec![Edges { first_ms: 64, step_ms: 300, number: 2 }, Edges { first_ms: -1, step_ms: 300, number: 2 }]
}

/// The frames of one series with an outline of its samples, as a whole answer.
fn answer_of(outline: &Outline) -> Vec<u8> {
    let mut writer = SeriesWriter::new(Form::Outline);
    writer.push(&labels(&[("a", "b")]), &outline.columns, &outline.left_out);
    let end = answer::end(1, outline.columns.samples() as u64);
    [vec![begin()], writer.finish(), vec![end]].concat().concat()
}

fn outline_of(answer: &Answer) -> Outline {
    let mut outline = Outline::default();
    answer.series[0].1.outline(&mut outline).expect("reads");
    outline
}

#[test]
fn a_question_for_outlines_is_golden_and_read_as_it_was_asked() {
    let matchers = "02 00 08 5f 5f 6e 61 6d 65 5f 5f 02 75 70 03 03 6a 6f 62 03 61 2e 2a";
    let all = [Aspect::Ends, Aspect::Falls, Aspect::Changes, Aspect::Min, Aspect::Max, Aspect::Sum];
    for (code, aspect) in all.into_iter().enumerate() {
        let request = request(aspect, edges());
        let question = Question::of(&request);
        let expect = format!("0{code} 02 80 01 d8 04 02 01 d8 04 02 01 80 01 ac 02 {matchers}");
        assert_eq!((question.path(), hex(&question.encode())), ("/outlines", expect));
        let read = question::outlines(&question.encode(), Cancel::default()).expect("reads");
        assert_eq!((&read.want, read.range, read.series_max), (&request.want, request.range, 300));
        assert_eq!(read.matchers, request.matchers);
    }
    let request = request(Aspect::Max, edges());
    assert_eq!(Question::Select(&request).encode(), Question::of(&select()).encode(), "all samples");
    let whole = Question::of(&request).encode();
    for end in 0..whole.len() {
        question::outlines(&whole[..end], Cancel::default()).expect_err("cut");
    }
    let refused = |bytes: &[u8]| question::outlines(bytes, Cancel::default()).expect_err("refused");
    assert!(refused(&[6]).contains("byte 1: what is asked of the samples is not known"));
    assert!(refused(&[0, 1, 0, 0, 1]).contains("byte 5: edges do not ascend"));
}

#[test]
fn a_frame_of_outlines_is_golden() {
    let mut writer = SeriesWriter::new(Form::Outline);
    let mut outline = Outline::default();
    for (t, left_out) in [(1000, 0), (2000, 300), (3000, 0), (4000, 1)] {
        outline.push(t, 1.0, left_out);
    }
    writer.push(&labels(&[("a", "b")]), &outline.columns, &outline.left_out);
    writer.push(&labels(&[("a", "c")]), &Columns::floats(vec![1000], vec![1.0]), &[]);
    writer.push(&labels(&[("a", "d")]), &Columns::default(), &[]);
    let frame = writer.finish().remove(0);
    let expect = "0f 00 04 01 61 01 62 04 16 02 01 ac 02 01 01 04 d0 0f 0d e8 07 02 00 00 00 00 00 00 00 f0 3f \
                  03 01 63 01 0e 00 01 d0 0f 00 00 00 00 00 00 00 00 f0 3f 03 01 64 00 01 00";
    assert_eq!(hex(&frame[8..]), expect);
}

#[test]
fn an_outline_that_is_larger_than_a_frame_goes_on_in_the_next() {
    let mut outline = Outline::default();
    // A full mantissa each, so that every sample takes its eight bytes.
    (0..100_000u32).for_each(|n| outline.push(i64::from(n), f64::from(n).sqrt(), u64::from(n % 1000 == 999)));
    let bytes = answer_of(&outline);
    let answer = read(&bytes, 10_000).expect("whole");
    assert_eq!(answer.series.len(), 1);
    assert!(answer.series[0].1.leaves_out() && outline_of(&answer) == outline);
}

#[test]
fn what_windows_stand_for_and_histograms_travel_with_an_outline() {
    let mut outline = Outline::default();
    for (t, count) in [(1, 0), (2, 3), (6, 0)] {
        outline.push(t, 0.5, 0);
        let resolution_ms = if t > 1 { 10 } else { 0 };
        outline.columns.set_last_aggregate(Aggregate { count, resolution_ms, sum: f64::from(count) });
    }
    outline.push(20, 1.0, 7);
    outline.columns.histograms = vec![histogram(3, 3), histogram(21, 3)];
    outline.push(22, 2.0, 8);
    assert_eq!(outline.left_out, [0, 0, 0, 7, 8]);
    assert_eq!(outline_of(&read(&answer_of(&outline), 7).expect("whole")), outline);
}

#[test]
fn an_outline_is_never_taken_for_all_samples() {
    let mut outline = Outline::default();
    outline.push(1, 1.0, 0);
    let all = read(&answer_of(&outline), 100).expect("whole");
    assert!(!all.series[0].1.leaves_out(), "nothing is");
    assert_eq!(samples(&all.series[0].1, TimeRange::ALL).len(), 1);
    assert!(!read(&whole(), 100).expect("whole").series[0].1.leaves_out(), "samples are all");
    outline.push(2, 1.0, 5);
    let some = read(&answer_of(&outline), 100).expect("whole");
    assert!(some.series[0].1.leaves_out());
    let error = some.series[0].1.read(TimeRange::ALL, &mut Columns::default()).expect_err("refused");
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.message.ends_with("they are not all"), "{error}");
}

#[test]
fn outlines_that_make_no_sense_are_refused() {
    let check = |standing: &[u8], expect: &str| {
        let entry = frame(FrameKind::Outlines, |out| {
            let (samples, mut chunk) = (Columns::floats(vec![1, 2], vec![1.0, 1.0]), Vec::new());
            tsdb::chunk::pieces(&samples).for_each(|piece| piece.encode(&mut Default::default(), &mut chunk));
            out.extend_from_slice(&[0, 4, 1, b'a', 1, b'b', 2, (standing.len() + chunk.len()) as u8]);
            out.extend_from_slice(&[standing, &chunk].concat());
        });
        let answer = read(&[begin(), entry, answer::end(1, 2)].concat(), 100).expect("whole");
        let error = answer.series[0].1.outline(&mut Outline::default()).expect_err(expect);
        assert_eq!(error.kind, Kind::Corrupt);
        assert!(error.message.ends_with(expect), "{error}");
    };
    check(&[1, 2, 1], "samples that are not there stand for others");
    let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    check(&[&[2, 0][..], &most, &[0, 1]].concat(), "too many samples are left out");
    check(&[200, 1], "a list is longer than what is there");
    // A series of one form does not go on in another.
    let of = |kind| frame(kind, |out| out.extend_from_slice(&[0, 4, 1, b'a', 1, b'b', 0, 0]));
    let both = [begin(), of(FrameKind::Outlines), of(FrameKind::Series)].concat();
    assert_eq!(read(&both, 100).expect_err("refused"), "series do not ascend");
}

proptest! {
    #[test]
    fn what_is_left_out_is_read_as_it_was_written(
        samples in prop::collection::vec((1..1000i64, any::<u64>(), prop_oneof![3 => Just(0), 1 => 0..u64::from(u32::MAX)]), 0..3000),
        piece in 1usize..5000,
    ) {
        let (mut outline, mut now) = (Outline::default(), 0);
        for (gap, bits, left_out) in samples {
            now += gap;
            outline.push(now, f64::from_bits(bits), left_out);
        }
        let answer = read(&answer_of(&outline), piece).expect("whole");
        let read = outline_of(&answer);
        prop_assert_eq!(answer.series[0].1.leaves_out(), outline.left_out.iter().any(|n| *n > 0));
        prop_assert_eq!(&read.left_out, &outline.left_out);
        prop_assert_eq!(&read.columns.t, &outline.columns.t);
        let bits = |outline: &Outline| outline.columns.v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&read), bits(&outline));
        // Appended to what is there.
        let mut twice = Outline::default();
        twice.push(i64::MIN, 0.0, 9);
        answer.series[0].1.outline(&mut twice).expect("reads");
        let all = outline.left_out.iter().chain(std::iter::repeat(&0)).take(outline.columns.len());
        prop_assert_eq!(twice.left_out, std::iter::once(&9).chain(all).copied().collect::<Vec<_>>());
    }
}
