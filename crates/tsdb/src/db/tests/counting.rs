//! Counting by the index gives what reading the series gives.

use model::{CountRequest, is_stale};

use super::*;
use crate::RetentionRule;

fn counted(db: &Db, matchers: &[Matcher], range: TimeRange, by: Option<&str>) -> Option<BTreeMap<String, u64>> {
    let by = by.map(str::to_owned);
    let request = CountRequest { matchers: matchers.to_vec(), range, by, cancel: Cancel::default() };
    let counts = db.count(&request).expect("counts")?;
    assert!(counts.groups.iter().all(|(_, count)| *count > 0));
    Some(counts.groups.into_iter().collect())
}

/// The times of the newest samples in the range, whether each is no stale marker, and the value of the label; ascending.
type Found = Vec<(i64, bool, String)>;

fn newest_by_reading(db: &Db, matchers: &[Matcher], range: TimeRange, by: Option<&str>) -> Found {
    let mut out = Vec::new();
    for series in db.select(&request(matchers.to_vec(), range)).expect("selects").series {
        let mut samples = Columns::default();
        series.data.read(range, &mut samples).expect("reads");
        if let Some((t, v)) = samples.t.last().zip(samples.v.last()) {
            let value = by.and_then(|name| series.labels.get(name)).unwrap_or("");
            out.push((*t, !is_stale(*v), value.to_owned()));
        }
    }
    out.sort();
    out
}

/// Of those that are no stale markers how many there are of each value.
fn numbers(found: &Found) -> BTreeMap<String, u64> {
    let mut out = BTreeMap::new();
    for (_, _, value) in found.iter().filter(|(_, is_live, _)| *is_live) {
        *out.entry(value.clone()).or_default() += 1;
    }
    out
}

/// The same by the index, which also tells series apart.
fn newest(db: &Db, matchers: &[Matcher], range: TimeRange, by: Option<&str>) -> Option<Found> {
    let by = by.map(str::to_owned);
    let request = CountRequest { matchers: matchers.to_vec(), range, by, cancel: Cancel::default() };
    let found = db.newest(&request).expect("counts")?;
    let hashes: std::collections::BTreeSet<u64> = found.series.iter().map(|one| one.hash).collect();
    assert_eq!(hashes.len(), found.series.len(), "each series once");
    let mut out: Found =
        found.series.iter().map(|one| (one.t, one.is_live, found.groups[one.group as usize].clone())).collect();
    out.sort();
    Some(out)
}

/// Compares over random ranges and matchers, alone and with others of a pool; how many the index could tell.
fn compare(db: &Db, random: &mut fastrand::Rng, seed: u64) -> usize {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("starts");
    let half = || Matcher::equal("half", "odd");
    let some = Matcher::new(MatchOp::Regex, "series", "1.*").expect("compiles");
    let mut told = 0;
    for _ in 0..12 {
        let end_ms = random.i64(0..7000);
        let range = TimeRange { start_ms: end_ms - random.i64(0..5000), end_ms };
        let mut matchers = vec![Matcher::equal("__name__", "m")];
        matchers.extend(random.bool().then(half));
        matchers.extend(random.bool().then(|| some.clone()));
        let by = [None, Some("half"), Some("series"), Some("absent")][random.usize(0..4)];
        let alone = counted(db, &matchers, range, by);
        if random.u8(0..4) == 0 {
            assert_eq!(pool.install(|| counted(db, &matchers, range, by)), alone, "seed {seed}, with others of a pool");
        }
        if let Some(counts) = alone {
            let expect = newest_by_reading(db, &matchers, range, by);
            assert_eq!(counts, numbers(&expect), "seed {seed}, {range:?}, {matchers:?}, by {by:?}");
            let newest = newest(db, &matchers, range, by).expect("it can tell these too");
            assert!(newest == expect, "seed {seed}, {range:?}, {matchers:?}, by {by:?}");
            told += 1;
        }
    }
    told
}

/// Samples of many series, the first with times that others do not have: some end earlier, some with a stale marker, some begin late.
fn fill(db: &Db, random: &mut fastrand::Rng, start: i64, offset: i64) {
    let odd = random.u64(1..40);
    let mut batch = db.begin();
    for series in 0..2500u64 {
        let even = !series.is_multiple_of(odd) || series > 1500;
        let n = if even { 5 } else { random.i64(1..6) };
        let mut samples: Vec<Sample> = (0..n).map(|i| Sample { t: start + i * 1000, v: i as f64 }).collect();
        if !even && random.bool() {
            samples.push(Sample { t: start + n * 1000, v: model::stale_nan() });
        }
        if !even && random.u8(0..4) == 0 {
            random.shuffle(&mut samples);
        }
        batch.append(labels(series).as_ref(), samples.as_slice());
    }
    batch.finish(0, offset);
}

#[test]
fn counts_are_those_of_reading_wherever_the_index_can_tell() {
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("directory");
        let db = Db::open(dir.path(), options()).expect("opens");
        fill(&db, &mut random, 0, 1);
        assert_eq!(compare(&db, &mut random, seed), 12, "all in the head");
        db.flush().expect("flushes");
        assert_eq!(compare(&db, &mut random, seed), 12, "all in a block");
        fill(&db, &mut random, 5000, 2);
        assert_eq!(compare(&db, &mut random, seed), 12, "in a block and the head");
        // Late ones, some of which are at times that are there.
        fill(&db, &mut random, 2000, 3);
        assert_eq!(compare(&db, &mut random, seed), 12, "in a block and the head, in no order");
        db.flush().expect("flushes");
        assert_eq!(compare(&db, &mut random, seed), 12, "in two blocks");
        fill(&db, &mut random, 1000, 4);
        assert_eq!(compare(&db, &mut random, seed), 12, "in two blocks and the head");
        db.delete(&[Matcher::equal("series", "7")], TimeRange { start_ms: 0, end_ms: 100 }).expect("deletes");
        compare(&db, &mut random, seed);
    }
}

#[test]
fn series_that_expire_at_different_times_are_read() {
    let dir = tempfile::tempdir().expect("directory");
    let rule = RetentionRule { matchers: vec![Matcher::equal("half", "odd")], age_ms: Some(1000) };
    let options = Options { retention_ms: Some(HOUR), retention_rules: vec![rule], ..options() };
    let db = Db::open(dir.path(), options).expect("opens");
    fill(&db, &mut fastrand::Rng::with_seed(1), 0, 1);
    db.expire(20_000).expect("expires");
    let all = [Matcher::equal("__name__", "m")];
    let left = numbers(&newest_by_reading(&db, &all, TimeRange::ALL, Some("half")));
    assert!(left.contains_key("even") && !left.contains_key("odd"), "{left:?}");
    assert_eq!(counted(&db, &all, TimeRange::ALL, Some("half")), None);
}

/// Blocks of the same hours with some of the series each, of which many end in one and go on in another. Returns what is in them.
fn overlapping(db: &Db, blocks: i64, random: &mut fastrand::Rng) {
    for offset in 1..=blocks {
        let start = random.i64(0..6) * 1000;
        fill(db, random, start, offset);
        db.flush().expect("flushes");
        let some = random.u64(0..2000);
        let mut batch = db.begin();
        for series in some..some + 900 {
            let sample = Sample { t: random.i64(0..9000), v: if random.bool() { 1.0 } else { model::stale_nan() } };
            batch.append(labels(series * 3).as_ref(), &[sample]);
        }
        batch.finish(1, offset);
        db.flush().expect("flushes");
    }
}

#[test]
fn series_of_many_blocks_are_counted_by_their_order_once_enough_of_them_were_asked_for() {
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(seed);
        let dir = tempfile::tempdir().expect("directory");
        let db = Db::open(dir.path(), options()).expect("opens");
        overlapping(&db, 3, &mut random);
        assert_eq!(compare(&db, &mut random, seed), 12);
        let made = db.stats();
        assert!(made.index_orders > 0 && made.index_order_bytes > 0, "{made:?}");
        assert_eq!(compare(&db, &mut random, seed), 12);
        // Some of the blocks, and some beside the head.
        fill(&db, &mut random, 4000, 9);
        assert_eq!(compare(&db, &mut random, seed), 12, "beside the head");
        db.flush().expect("flushes");
        while db.compact(&Cancel::default()).expect("merges") {}
        assert_eq!(db.stats().index_order_bytes, 0, "blocks that are gone have no order");
        compare(&db, &mut random, seed);
    }
}

#[test]
fn an_order_is_made_when_it_is_worth_it_used_for_fewer_blocks_and_none_where_there_is_no_room() {
    let fill_three = |db: &Db| {
        for (n, t) in [0, 1000, 2000].into_iter().enumerate() {
            fill(db, &mut fastrand::Rng::with_seed(7), t, n as i64 + 1);
            db.flush().expect("flushes");
        }
    };
    let one = [Matcher::equal("__name__", "m"), Matcher::equal("series", "1000")];
    let all = [Matcher::equal("__name__", "m")];
    let dir = tempfile::tempdir().expect("directory");
    let index = model::Budget::new("the index", usize::MAX);
    let memory = Memory { index: index.clone(), ..Memory::default() };
    let db = Db::open(dir.path(), Options { memory, ..options() }).expect("opens");
    fill_three(&db);
    let orders = |db: &Db| (db.stats().index_orders, db.stats().index_orders_too_large);
    // One of 64 of three times 2,500 is 118, of which each of these asks for three.
    let ask = || assert_eq!(counted(&db, &one, TimeRange::ALL, None), Some(BTreeMap::from([(String::new(), 1)])));
    (0..39).for_each(|_| ask());
    std::thread::scope(|scope| {
        // It waits until the next one, and the query does not wait for it.
        let made = scope.spawn(|| db.make_wanted_order(&Cancel::default()));
        ask();
        assert!(made.join().expect("ends").expect("makes"));
        let ended = scope.spawn(|| db.make_wanted_order(&Cancel::default()));
        db.end_orders();
        assert!(!ended.join().expect("ends").expect("makes none"));
    });
    assert_eq!(orders(&db), (1, 0));
    let figures = db.stats();
    assert_eq!(index.held(), figures.index_bytes + figures.index_cache_bytes + figures.index_order_bytes);
    counted(&db, &all, TimeRange::ALL, None);
    // The first block has nothing after its last sample.
    counted(&db, &all, TimeRange { start_ms: 5500, end_ms: 6000 }, None);
    assert_eq!(orders(&db), (1, 0), "two of the three are in the order of all");

    // The bits of three blocks take 938 bytes, and with what is beside them more than 1,000.
    for bytes_max in [900, 1000] {
        let dir = tempfile::tempdir().expect("directory");
        let small = Db::open(dir.path(), Options { index_cache_bytes: 8 * bytes_max, ..options() }).expect("opens");
        fill_three(&small);
        for n in 1..=3 {
            let by = Some("half");
            assert_eq!(counted(&small, &all, TimeRange::ALL, by), counted(&db, &all, TimeRange::ALL, by));
            assert_eq!((orders(&small), small.stats().index_order_bytes), ((0, n), 0), "hashes tell them apart");
        }
    }
}

#[test]
fn few_of_many_series_are_told_apart_by_their_labels_alone_or_together() {
    let dir = tempfile::tempdir().expect("directory");
    // Without room for an order.
    let db = Db::open(dir.path(), Options { index_cache_bytes: 1 << 10, ..options() }).expect("opens");
    let mut random = fastrand::Rng::with_seed(3);
    for offset in 1..=3 {
        let mut batch = db.begin();
        for series in 0..16_000 {
            let is_stale = offset > 1 && random.u8(0..8) == 0;
            let sample = Sample { t: random.i64(0..4) * 1000, v: if is_stale { model::stale_nan() } else { 1.0 } };
            batch.append(labels(series).as_ref(), &[sample]);
        }
        batch.finish(0, offset);
        db.flush().expect("flushes");
    }
    let thousand = Matcher::new(MatchOp::Regex, "series", "1...").expect("compiles");
    let all = [Matcher::equal("__name__", "m"), thousand];
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("starts");
    for end_ms in [0, 1500, 9000] {
        for by in [None, Some("half"), Some("series"), Some("absent")] {
            let range = TimeRange { start_ms: 0, end_ms };
            let expect = newest_by_reading(&db, &all, range, by);
            assert!(expect.len() > 512, "{} series", expect.len());
            for found in [newest(&db, &all, range, by), pool.install(|| newest(&db, &all, range, by))] {
                assert!(found.expect("it can tell") == expect, "until {end_ms}, by {by:?}");
            }
            let counts = pool.install(|| counted(&db, &all, range, by));
            assert_eq!(counts, Some(numbers(&expect)), "until {end_ms}, by {by:?}");
        }
    }
}
