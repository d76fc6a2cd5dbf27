//! Exemplars and metadata over flushes, restarts, deletions and damage.

use model::{Exemplar, ExemplarsRequest, Metadata};

use super::*;

fn exemplar(t: i64, trace: &str) -> Exemplar {
    Exemplar::new(t, 0.5, &[("trace", trace)]).expect("valid")
}

fn add(db: &Db, series: u64, exemplars: &[Exemplar], offset: i64) {
    let mut batch = db.begin();
    batch.exemplars(labels(series).as_ref(), exemplars);
    batch.finish(0, offset);
}

/// Series and times.
fn found(db: &Db) -> Vec<(String, Vec<i64>)> {
    let matcher_sets = vec![vec![Matcher::equal("__name__", "m")]];
    let asked = ExemplarsRequest { matcher_sets, range: TimeRange::ALL, exemplars_max: 100, cancel: Cancel::default() };
    let found = db.exemplars(&asked).expect("answers").items.into_iter();
    let times = |exemplars: Vec<Exemplar>| exemplars.iter().map(|exemplar| exemplar.t).collect();
    // Odd ones come after even ones.
    found.map(|one| (one.series.get("series").unwrap_or("").to_owned(), times(one.exemplars))).collect()
}

fn named(found: &[(&str, &[i64])]) -> Vec<(String, Vec<i64>)> {
    found.iter().map(|(name, times)| ((*name).to_owned(), times.to_vec())).collect()
}

/// The files in a directory but for the lock.
fn files(dir: &Path) -> Vec<String> {
    let names =
        fs::read_dir(dir).expect("readable").map(|e| e.expect("entry").file_name().into_string().expect("text"));
    let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
    names.sort();
    names
}

#[test]
fn exemplars_are_durable_with_the_positions_and_reading_the_log_again_changes_nothing() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    add(&db, 1, &[exemplar(5, "a"), exemplar(3, "b")], 1);
    assert_eq!(db.flush().expect("flushes")[&0], 1);
    add(&db, 2, &[exemplar(4, "c")], 2);
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!(db.positions()[&0], 1);
    assert_eq!(found(&db), named(&[("1", &[3, 5])]));
    add(&db, 1, &[exemplar(5, "a"), exemplar(3, "b")], 1);
    add(&db, 2, &[exemplar(4, "c")], 2);
    assert_eq!(found(&db), named(&[("2", &[4]), ("1", &[3, 5])]));
    let stats = db.stats();
    assert_eq!((stats.exemplars, stats.exemplar_series, stats.evicted_exemplars), (3, 2, 0));
}

#[test]
fn their_file_is_written_again_only_when_they_have_changed() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    db.flush().expect("flushes");
    assert_eq!(files(dir.path()), ["manifest"]);
    add(&db, 1, &[exemplar(5, "a")], 1);
    for _ in 0..2 {
        db.flush().expect("flushes");
        assert_eq!(files(dir.path()), ["0000000000.exemplars", "manifest"]);
    }
    add(&db, 1, &[exemplar(5, "a")], 2);
    db.flush().expect("flushes");
    assert_eq!(files(dir.path()), ["0000000000.exemplars", "manifest"]);
    add(&db, 1, &[exemplar(6, "a")], 3);
    db.flush().expect("flushes");
    assert_eq!(files(dir.path()), ["0000000001.exemplars", "manifest"]);
    drop(db);
    let db = Db::open(dir.path(), Options { exemplars_max: 1, ..options() }).expect("opens");
    assert_eq!(found(&db), named(&[("1", &[6])]), "a lower bound holds at once");
    add(&db, 1, &[exemplar(4, "a")], 4);
    assert_eq!((found(&db), db.stats().evicted_exemplars), (named(&[("1", &[6])]), 2));
    db.delete(&[Matcher::equal("series", "1")], TimeRange::ALL).expect("deletes");
    assert_eq!(files(dir.path()), ["manifest"], "none are left");
}

#[test]
fn a_deletion_takes_exemplars_for_good_and_leaves_what_comes_later() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    for series in [1, 2] {
        add(&db, series, &[exemplar(1, "a"), exemplar(2, "a"), exemplar(3, "a")], series as i64);
    }
    let range = TimeRange { start_ms: 2, end_ms: 9 };
    db.delete(&[Matcher::equal("series", "1")], range).expect("deletes");
    let expect = named(&[("2", &[1, 2, 3]), ("1", &[1])]);
    assert_eq!(found(&db), expect);
    assert_eq!(lock(&db.committed).manifest.deletes, [], "no block has anything of it");
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!(found(&db), expect);
    add(&db, 1, &[exemplar(2, "later")], 3);
    db.flush().expect("flushes");
    while db.compact(&Cancel::default()).expect("merges") {}
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!(found(&db), named(&[("2", &[1, 2, 3]), ("1", &[1, 2])]));
}

#[test]
fn exemplars_expire_with_their_series_and_their_file_follows() {
    let dir = tempfile::tempdir().expect("directory");
    let options = Options { retention_ms: Some(100), ..options() };
    let db = Db::open(dir.path(), options.clone()).expect("opens");
    add(&db, 1, &[exemplar(100, "a"), exemplar(200, "a")], 1);
    db.flush().expect("flushes");
    db.expire(200).expect("expires");
    assert_eq!(found(&db), named(&[("1", &[100, 200])]));
    db.expire(201).expect("expires");
    assert_eq!((found(&db), db.stats().exemplars), (named(&[("1", &[200])]), 1));
    db.flush().expect("flushes");
    drop(db);
    let db = Db::open(dir.path(), options).expect("opens");
    assert_eq!(found(&db), named(&[("1", &[200])]));
    db.expire(301).expect("expires");
    db.flush().expect("flushes");
    assert_eq!(files(dir.path()), ["manifest"]);
}

#[test]
fn damaged_exemplars_are_told_and_kept_aside_when_others_take_their_place() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    add(&db, 1, &[exemplar(5, "a")], 1);
    db.flush().expect("flushes");
    drop(db);
    let path = dir.path().join("0000000000.exemplars");
    let mut bytes = fs::read(&path).expect("read");
    bytes[12] ^= 1;
    fs::write(&path, bytes).expect("written");
    let db = Db::open(dir.path(), options()).expect("opens");
    let warning = db.exemplars_warning().expect("told");
    assert!(warning.starts_with("exemplars are missing: ") && warning.contains("checksum"), "{warning}");
    assert_eq!(found(&db), []);
    db.flush().expect("flushes");
    assert_eq!(files(dir.path()), ["0000000000.exemplars", "manifest"], "nothing has changed");
    db.snapshot(&dir.path().join("snapshot")).expect("is taken without it");
    add(&db, 1, &[exemplar(6, "a")], 2);
    db.flush().expect("flushes");
    assert_eq!(db.exemplars_warning(), None);
    let names = ["0000000000.exemplars.damaged", "0000000001.exemplars", "manifest", "snapshot"];
    assert_eq!(files(dir.path()), names);
    drop(db);
    let db = Db::open(dir.path(), options()).expect("opens");
    assert_eq!((found(&db), db.exemplars_warning()), (named(&[("1", &[6])]), None));
    assert_eq!(files(dir.path()), names);
}

#[test]
fn a_snapshot_has_the_exemplars_and_so_has_a_copy_of_it() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    add(&db, 1, &[exemplar(5, "a")], 1);
    db.flush().expect("flushes");
    let (snapshot, copy) = (dir.path().join("snapshot"), dir.path().join("copy"));
    db.snapshot(&snapshot).expect("is taken");
    add(&db, 1, &[exemplar(6, "a")], 2);
    db.flush().expect("flushes");
    crate::offline::layout::copy(&snapshot, &copy).expect("is copied");
    for of in [&snapshot, &copy] {
        assert_eq!(found(&Db::open(of, options()).expect("opens")), named(&[("1", &[5])]));
    }
}

#[test]
fn metadata_goes_when_it_is_old_and_no_series_of_the_family_is_left() {
    let dir = tempfile::tempdir().expect("directory");
    let options = Options { retention_ms: Some(HOUR), ..options() };
    let db = Db::open(dir.path(), options.clone()).expect("opens");
    let metadata = |family: &str, help: &str| Metadata {
        family: family.into(),
        kind: model::MetricType::Histogram,
        help: help.into(),
        unit: String::new(),
    };
    let tell = |db: &Db, family: &str, help: &str, told_ms: i64| {
        let mut batch = db.begin();
        batch.metadata(&metadata(family, help), told_ms);
        batch.finish(0, 1);
    };
    // A family with series, said twice; one without; one that is said again.
    for (family, help, told) in
        [("m", "old", 1), ("m", "new", 2), ("gone", "", 3), ("again", "", 3), ("again", "", HOUR)]
    {
        tell(&db, family, help, told);
    }
    let mut batch = db.begin();
    let bucket = Labels::new(&[("__name__", "m_bucket"), ("le", "1")]).expect("valid");
    batch.append(bucket.as_ref(), &[Sample { t: HOUR, v: 1.0 }]);
    batch.finish(0, 2);
    let left = |db: &Db| {
        let items = db.metadata(None).expect("answers").items;
        items.into_iter().map(|m| format!("{} {}", m.family, m.help)).collect::<Vec<_>>()
    };
    db.expire(HOUR).expect("expires");
    db.flush().expect("flushes");
    assert_eq!(left(&db).len(), 4);
    for _ in 0..2 {
        // In the head, then in a block.
        db.expire(HOUR + 4).expect("expires");
        db.flush().expect("flushes");
        assert_eq!(left(&db), ["again ", "m new"]);
    }
    drop(db);
    // While the block cannot be read, nobody knows whose series are in it.
    let (path, aside) = (dir.path().join("0000000000.block"), dir.path().join("aside"));
    fs::rename(&path, &aside).expect("renamed");
    let db = Db::open(dir.path(), options.clone()).expect("opens");
    db.expire(2 * HOUR).expect("expires");
    db.flush().expect("flushes");
    assert_eq!(left(&db), ["again ", "m new"]);
    drop(db);
    fs::rename(&aside, &path).expect("renamed");
    let db = Db::open(dir.path(), options).expect("opens");
    db.expire(2 * HOUR + 1).expect("expires");
    db.flush().expect("flushes");
    assert_eq!(left(&db), [""; 0]);
}
