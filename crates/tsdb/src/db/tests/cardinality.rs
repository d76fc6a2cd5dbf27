//! Counting series by the indexes gives what selecting them gives, wherever they are.

use model::{Budget, Cardinality, CardinalityRequest, Classes, Kind, Tally};

use super::*;

fn request_of(matcher_sets: Vec<Vec<Matcher>>, range: TimeRange, classes: Classes) -> CardinalityRequest {
    CardinalityRequest { matcher_sets, range, classes, series_max: usize::MAX, cancel: Cancel::default() }
}

fn of(db: &Db, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Tally {
    let mut counted = db.cardinality(&request_of(matcher_sets.to_vec(), range, Classes::ONE)).expect("counts");
    let tally = counted.tallies.remove(&0).unwrap_or_default();
    assert_eq!((counted.tallies.len(), counted.warnings.len()), (0, 0));
    tally
}

/// The same by the series that a select finds.
fn by_selecting(db: &Db, matchers: &[Matcher], range: TimeRange) -> Tally {
    let mut tally = Tally::default();
    for series in db.select(&request(matchers.to_vec(), range)).expect("selects").series {
        tally.add(series.labels.as_ref());
    }
    tally
}

/// Samples of some series at some time.
fn append(db: &Db, series: std::ops::Range<u64>, start: i64, offset: i64) {
    let mut batch = db.begin();
    for n in series {
        batch.append(labels(n).as_ref(), [Sample { t: start, v: 1.0 }, Sample { t: start + 1, v: 2.0 }].as_slice());
    }
    batch.finish(0, offset);
}

/// Whether what is counted is what selecting finds, but for the chunks, which selecting does not tell.
fn check(db: &Db) -> Tally {
    let half = || Matcher::equal("half", "odd");
    let some = Matcher::new(MatchOp::Regex, "series", "1.*").expect("compiles");
    // Few of many are looked at with their labels, and many by numbers.
    let few = Matcher::new(MatchOp::Regex, "series", "1..|39..").expect("compiles");
    for matchers in [vec![few], vec![half()], vec![half(), some.clone()], vec![Matcher::equal("half", "")]] {
        let counted = of(db, std::slice::from_ref(&matchers), TimeRange::ALL);
        assert_eq!(Tally { chunks: 0, ..counted }, by_selecting(db, &matchers, TimeRange::ALL), "{matchers:?}");
    }
    let both = of(db, &[vec![half()], vec![some]], TimeRange::ALL);
    assert!(both.series >= of(db, &[vec![half()]], TimeRange::ALL).series, "one of two sets is enough");
    let all = of(db, &[], TimeRange::ALL);
    assert_eq!(Tally { chunks: 0, ..all.clone() }, by_selecting(db, &[], TimeRange::ALL));
    all
}

#[test]
fn a_series_counts_once_wherever_it_has_samples() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!(of(&db, &[], TimeRange::ALL), Tally::default());
    append(&db, 0..3000, 0, 1);
    let all = check(&db);
    assert_eq!((all.series, all.chunks), (3000, 3000));
    assert_eq!(
        (all.labels["half"]["odd"], all.labels["__name__"]["m"], all.labels["series"].len()),
        (1500, 3000, 3000)
    );
    db.flush().expect("flushes");
    assert_eq!(check(&db), all, "a flush changes nothing");
    // Most of them again, in the head and in a second block of another hour.
    append(&db, 1000..4000, HOUR, 2);
    assert_eq!(check(&db).series, 4000);
    db.flush().expect("flushes");
    append(&db, 3900..4100, 2 * HOUR, 3);
    let all = check(&db);
    assert_eq!((all.series, all.chunks), (4100, 6200));
    assert_eq!(of(&db, &[], TimeRange { start_ms: 0, end_ms: 1 }).series, 3000, "those that may have a sample then");
    assert_eq!(of(&db, &[], TimeRange { start_ms: 2 * HOUR, end_ms: 3 * HOUR }).series, 200);
    let counted = db.cardinality(&request_of(vec![], TimeRange::ALL, Classes::ONE)).expect("counts");
    assert_eq!(counted.range, Some(TimeRange { start_ms: 0, end_ms: 2 * HOUR + 1 }));
}

#[test]
fn series_that_are_deleted_are_gone_at_once() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, 0..20, 0, 1);
    db.flush().expect("flushes");
    db.delete(&[Matcher::equal("half", "odd")], TimeRange::ALL).expect("deletes");
    let all = check(&db);
    assert_eq!((all.series, all.labels["half"].len()), (10, 1));
}

#[test]
fn classes_are_counted_apart_and_add_up() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, 0..500, 0, 1);
    db.flush().expect("flushes");
    append(&db, 400..600, HOUR, 2);
    let classes = Classes { partitions: 8, modulus: 3 };
    let Cardinality { tallies, .. } = db.cardinality(&request_of(vec![], TimeRange::ALL, classes)).expect("counts");
    let expect = |class| (0..600).filter(|n| classes.of(labels(*n).as_ref()) == class).count() as u64;
    assert_eq!(
        tallies.iter().map(|(class, tally)| (*class, tally.series)).collect::<Vec<_>>(),
        [0, 1, 2].map(|c| (c, expect(c)))
    );
    let mut sum = Tally::default();
    tallies.into_values().for_each(|tally| sum.merge(tally));
    assert_eq!(sum, of(&db, &[], TimeRange::ALL));
}

#[test]
fn counting_is_bounded_and_ends_when_it_is_cancelled() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, 0..5000, 0, 1);
    for place in ["head", "block"] {
        let all = request_of(vec![], TimeRange::ALL, Classes::ONE);
        let error = db.cardinality(&CardinalityRequest { series_max: 4999, ..all.clone() }).expect_err("too many");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (Kind::Invalid, "the selector finds more than 4999 series: 5000 at the least"),
            "{place}"
        );
        db.cardinality(&CardinalityRequest { series_max: 5000, ..all.clone() }).expect("not too many");
        let cancel = Cancel::default();
        cancel.cancel();
        db.cardinality(&CardinalityRequest { cancel, ..all.clone() }).expect_err("cancelled");
        let memory = Budget::new("queries", 100_000);
        let cancel = Cancel::with(memory.claim());
        let error = db.cardinality(&CardinalityRequest { cancel, ..all }).expect_err("too large");
        assert!(error.message.contains("too little memory for queries"), "{}", error.message);
        assert_eq!(memory.held(), 0);
        db.flush().expect("flushes");
    }
}

#[test]
fn a_damaged_block_is_left_out_and_told_of() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, 0..20, 0, 1);
    db.flush().expect("flushes");
    let block = fs::read_dir(dir.path()).expect("lists").map(|e| e.expect("an entry").path());
    let block = block.into_iter().find(|path| path.extension().is_some_and(|e| e == "block")).expect("a block");
    drop(db);
    let mut bytes = fs::read(&block).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(&block, bytes).expect("writes");
    let db = Db::open(dir.path(), options()).expect("opens");
    append(&db, 30..40, HOUR, 2);
    let counted = db.cardinality(&request_of(vec![], TimeRange::ALL, Classes::ONE)).expect("counts");
    assert_eq!((counted.tallies[&0].series, counted.warnings.len()), (10, 1), "{:?}", counted.warnings);
}
