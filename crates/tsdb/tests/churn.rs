//! Series that come and go: what they take in memory and on the disk while they are there, and after.

mod churning;

use model::{Cancel, LabelsRequest, Matcher, Sample, SeriesSource as _, TimeRange};
use tsdb::offline::inspect;
use tsdb::{Db, Options, Stats};

use churning::labels;

/// Series at a time, rounds of which each has new ones, and samples of each.
const SERIES: usize = 3000;
const ROUNDS: usize = 16;
/// Rounds of a quarter.
const QUARTER: usize = ROUNDS / 4;
const SAMPLES: i64 = 24;
const STEP_MS: i64 = 15_000;
const START_MS: i64 = 20_700 * 86_400_000;
const CACHE_BYTES: usize = 512 << 10;

/// Writes series of which none was there before, and all that this brings with it.
fn round(db: &Db, round: usize) -> Stats {
    for part in 0..10 {
        let mut batch = db.begin();
        for at in 0..SERIES / 10 {
            let number = round * SERIES + part * (SERIES / 10) + at;
            let sample = |n: i64| Sample {
                t: START_MS + (round as i64 * SAMPLES + n) * STEP_MS,
                v: 1e8 + ((n * 31 + number as i64 * 17) % 4096 * 4096) as f64,
            };
            batch.append(labels(number).as_ref(), &(0..SAMPLES).map(sample).collect::<Vec<_>>());
        }
        batch.finish(0, (round * 10 + part) as i64 + 1);
    }
    let filled = db.stats();
    db.flush().expect("flushes");
    while db.compact(&Cancel::default()).expect("merges") {}
    // Somebody asks for all there is, so that the cache is full.
    let request = LabelsRequest {
        matcher_sets: vec![vec![Matcher::equal("cluster", "eu-1")]],
        range: TimeRange::ALL,
        cancel: Cancel::default(),
    };
    assert_eq!(db.label_values("uid", &request).expect("lists").items.len(), (round + 1) * SERIES);
    Stats { head_bytes: filled.head_bytes, ..db.stats() }
}

/// All that the engine accounts for.
fn accounted(stats: &Stats) -> usize {
    stats.head_bytes + stats.index_bytes + stats.index_cache_bytes + stats.index_order_bytes
}

#[test]
fn memory_does_not_grow_by_series_that_have_ended_and_their_index_is_no_larger_than_their_samples() {
    let dir = tempfile::tempdir().expect("directory");
    let options = Options { index_cache_bytes: CACHE_BYTES, ..Options::default() };
    let db = Db::open(dir.path(), options).expect("opens");
    let first = round(&db, 0);
    let (mut last, mut held) = (first, vec![accounted(&first)]);
    for n in 1..ROUNDS {
        last = round(&db, n);
        held.push(accounted(&last));
        assert_eq!(last.head_series, SERIES, "those of the round before have ended: {last:?}");
        assert!(last.head_bytes < 2 * first.head_bytes, "{last:?}");
        assert!(last.index_cache_bytes <= CACHE_BYTES, "{last:?}");
    }
    // All that the engine accounts for, with the numbers of what is on the disk.
    let most = |rounds: &[usize]| rounds.iter().copied().max().unwrap_or(0);
    let (first, end) = (most(&held[..QUARTER]), most(&held[ROUNDS - QUARTER..]));
    assert!(end * 10 <= first * 11, "it grows from the first quarter to the last: {held:?}");
    assert!(last.index_cache_evictions > 0, "the cache was full: {last:?}");
    assert!(last.index_bytes < ROUNDS * SERIES, "a byte a series: {last:?}");
    drop(db);
    let inspect::Report { series, parts, .. } = inspect::inspect(dir.path(), 0).expect("inspects");
    assert_eq!(series as usize, ROUNDS * SERIES);
    assert!(parts.index <= parts.times + parts.values + parts.frames, "{parts:?}");
}
