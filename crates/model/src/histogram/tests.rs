use super::*;
use crate::stale_nan;

fn spans(spans: &[(i32, u32)]) -> Vec<Span> {
    spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect()
}

fn integer() -> Histogram {
    let layout = Layout {
        schema: 3,
        zero_threshold: 0.001,
        positive: spans(&[(-2, 2), (3, 1)]),
        negative: spans(&[(0, 1)]),
        custom_values: Vec::new(),
    };
    let counts = Buckets { count: 12, zero: 2, positive: vec![1, 4, 2], negative: vec![3] };
    Histogram { layout: Arc::new(layout), hint: ResetHint::NotReset, sum: 3.5, counts: Counts::Integer(counts) }
}

fn float() -> Histogram {
    let counts = Buckets { count: 12.5, zero: 2.0, positive: vec![1.0, 4.5, 2.0], negative: vec![3.0] };
    Histogram { counts: Counts::Float(counts), ..integer() }
}

fn custom() -> Histogram {
    let layout = Layout {
        schema: CUSTOM_BUCKETS_SCHEMA,
        positive: spans(&[(1, 2)]),
        custom_values: vec![0.5, 2.0],
        ..Layout::default()
    };
    let counts = Buckets { count: 5, zero: 0, positive: vec![4, 1], negative: Vec::new() };
    Histogram { layout: Arc::new(layout), counts: Counts::Integer(counts), ..integer() }
}

fn changed(mut of: Histogram, change: impl FnOnce(&mut Layout, &mut Counts, &mut f64)) -> Histogram {
    change(Arc::make_mut(&mut of.layout), &mut of.counts, &mut of.sum);
    of
}

#[test]
fn histograms_whose_parts_agree_are_valid() {
    for histogram in [integer(), float(), custom()] {
        assert_eq!(histogram.validate(), Ok(()));
    }
    // What marks the end of a series has nothing but a sum.
    let counts = Counts::Integer(Buckets::default());
    let stale = Histogram { layout: Arc::default(), hint: ResetHint::Unknown, sum: stale_nan(), counts };
    assert_eq!((stale.validate(), stale.is_stale(), integer().is_stale()), (Ok(()), true, false));
    // Observations that are no numbers are in no bucket.
    let more = changed(integer(), |_, counts, sum| {
        let Counts::Integer(counts) = counts else { unreachable!() };
        (counts.count, *sum) = (20, f64::NAN);
    });
    assert_eq!(more.validate(), Ok(()));
    // An empty span, and bounds that reach infinity by themselves.
    assert_eq!(changed(integer(), |l, _, _| l.positive.push(Span { offset: 5, length: 0 })).validate(), Ok(()));
    assert_eq!(changed(custom(), |l, _, _| l.positive[0].offset = 0).validate(), Ok(()));
}

#[test]
fn each_disagreement_is_named() {
    let check = |histogram: Histogram, change: &dyn Fn(&mut Layout, &mut Counts, &mut f64), expect: &str| {
        let error = changed(histogram, change).validate().expect_err(expect);
        assert_eq!(error.to_string(), expect);
    };
    fn whole(counts: &mut Counts) -> &mut Buckets<u64> {
        let Counts::Integer(counts) = counts else { unreachable!() };
        counts
    }
    fn parts(counts: &mut Counts) -> &mut Buckets<f64> {
        let Counts::Float(counts) = counts else { unreachable!() };
        counts
    }
    check(integer(), &|l, _, _| l.schema = 9, "schema 9 is neither from -4 to 8 nor -53");
    check(integer(), &|l, _, _| l.schema = -5, "schema -5 is neither from -4 to 8 nor -53");
    check(integer(), &|l, _, _| l.positive[1].offset = -1, "positive span 2 has the offset -1");
    check(integer(), &|l, _, _| l.positive[0].offset = i32::MAX, "positive span 1 has the offset 2147483647");
    check(integer(), &|l, _, _| l.positive[0].length = 3, "positive spans are of 4 buckets, and there are 3");
    check(integer(), &|_, c, _| whole(c).negative.clear(), "negative spans are of 1 buckets, and there are 0");
    check(integer(), &|_, c, _| whole(c).count = 13, "count is 13, and the buckets have 12");
    check(integer(), &|_, c, sum| (whole(c).count, *sum) = (11, f64::NAN), "count is 11, and the buckets have 12");
    let overflow: &dyn Fn(&mut Layout, &mut Counts, &mut f64) = &|_, c, _| whole(c).zero = u64::MAX - 5;
    check(integer(), overflow, "count is 12, and the buckets have 18446744073709551615");
    check(integer(), &|l, _, _| l.custom_values = vec![1.0], "custom bounds with a schema that has none");
    check(float(), &|_, c, _| parts(c).positive[1] = -1.0, "a positive bucket's count is negative");
    check(float(), &|_, c, _| parts(c).negative[0] = -1.0, "a negative bucket's count is negative");
    check(float(), &|_, c, _| parts(c).zero = -0.5, "the zero bucket's count is negative");
    check(float(), &|_, c, _| parts(c).count = -0.5, "the count is negative");
    check(custom(), &|l, _, _| l.custom_values = vec![0.5], "custom bounds are fewer than the spans reach");
    check(custom(), &|l, _, _| l.custom_values = vec![2.0, 2.0], "custom bounds must ascend");
    check(custom(), &|l, _, _| l.custom_values[1] = f64::INFINITY, "custom bounds must not end with infinity");
    check(custom(), &|l, _, _| l.custom_values[0] = f64::NAN, "custom bounds must be numbers");
    check(custom(), &|l, _, _| l.positive[0].offset = -1, "positive span 1 has the offset -1");
    check(
        custom(),
        &|_, c, _| (whole(c).zero, whole(c).count) = (1, 6),
        "a count of zeros with a schema that has none",
    );
    check(custom(), &|l, _, _| l.zero_threshold = 0.1, "a zero threshold with a schema that has none");
    check(custom(), &|l, _, _| l.negative = spans(&[(0, 0)]), "negative spans with a schema that has none");
    let many = BUCKETS_MAX + 1;
    check(integer(), &|_, c, _| whole(c).positive = vec![0; many], "16385 buckets, at most 16384 are taken");
    check(integer(), &|l, _, _| l.negative = spans(&[(0, 0)]).repeat(many), "16385 spans, at most 16384 are taken");
}

#[test]
fn equality_is_that_of_the_bits() {
    let nan = |bits: u64| changed(float(), |_, _, sum| *sum = f64::from_bits(bits));
    assert_eq!(nan(0x7ff8_0000_0000_0001), nan(0x7ff8_0000_0000_0001));
    assert_ne!(nan(0x7ff8_0000_0000_0001), nan(0x7ff8_0000_0000_0002));
    assert_ne!(changed(float(), |l, _, _| l.zero_threshold = 0.0), changed(float(), |l, _, _| l.zero_threshold = -0.0));
    assert!(integer().is_like(&integer()) && !integer().is_like(&float()) && !integer().is_like(&custom()));
}

#[test]
fn hints_have_the_numbers_of_the_protocols() {
    for (number, hint) in ResetHint::ALL.into_iter().enumerate() {
        assert_eq!((ResetHint::from_number(number as u64), hint as usize), (Some(hint), number));
    }
    assert_eq!(ResetHint::from_number(4), None);
}

#[test]
fn a_schema_that_is_too_fine_is_brought_down_to_the_finest() {
    let fine = |schema: i32, of: &[(i32, u32)], counts: &[u64]| {
        let layout = Layout { schema, positive: spans(of), ..Layout::default() };
        let count = counts.iter().sum();
        let counts = Counts::Integer(Buckets { count, positive: counts.to_vec(), ..Buckets::default() });
        Histogram { layout: Arc::new(layout), hint: ResetHint::Unknown, sum: 1.0, counts }
    };
    // Of indices -3, -2, then 1, 2, 3, then 9 each is in the bucket of half of it, rounded up: -1, -1, 1, 1, 2, 5.
    let of = [(-3, 2), (2, 3), (5, 1)];
    let found = fine(9, &of, &[1, 2, 4, 8, 16, 32]).accepted().expect("valid");
    assert_eq!(found, fine(8, &[(-1, 1), (1, 2), (2, 1)], &[3, 12, 16, 32]));
    // An eighth of it: 0, 0, 1, 1, 1, 2.
    let found = fine(11, &of, &[1, 2, 4, 8, 16, 32]).accepted().expect("valid");
    assert_eq!(found, fine(8, &[(0, 3)], &[3, 28, 32]));
    let far = fine(52, &[(i32::MAX - 1, 1)], &[7]).accepted().expect("valid");
    assert_eq!(far, fine(8, &[(1, 1)], &[7]));
    // The same of negative ones and of floats; and one that needs nothing stays as it is.
    let both = changed(float(), |layout, _, _| layout.schema = 10);
    let both = both.accepted().expect("valid");
    assert_eq!(
        (both.layout.schema, &both.layout.positive, &both.layout.negative),
        (8, &spans(&[(0, 2)]), &spans(&[(0, 1)]))
    );
    let Counts::Float(counts) = &both.counts else { panic!("floats stay floats") };
    assert_eq!((&counts.positive, &counts.negative, counts.count), (&vec![5.5, 2.0], &vec![3.0], 12.5));
    assert_eq!(integer().accepted(), Ok(integer()));
    for (schema, expect) in [(53, "schema 53"), (-5, "schema -5")] {
        let error = fine(schema, &[], &[]).accepted().expect_err("refused").to_string();
        assert!(error.starts_with(expect), "{error}");
    }
    let error = fine(9, &[(0, 2)], &[1]).accepted().expect_err("refused").to_string();
    assert_eq!(error, "positive spans are of 2 buckets, and there are 1");
}
