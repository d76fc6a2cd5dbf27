//! What an engine says that changed, of what was appended to it.

use super::*;

#[test]
fn what_a_record_changes_is_told_by_the_names_of_its_series() {
    let dir = tempfile::tempdir().expect("directory");
    let db = Db::open(dir.path(), options()).expect("opens");
    let mut offset = 0;
    let mut append = |name: &str, value: &str| {
        let labels = Labels::new(&[(name, value)]).expect("valid");
        let mut batch = db.begin();
        batch.append(labels.as_ref(), &[Sample { t: 1, v: 1.0 }]);
        offset += 1;
        batch.finish(0, offset);
    };
    let changed = |since: u64, name: &str| {
        let range = TimeRange { start_ms: 0, end_ms: 1000 };
        !db.changed_since(since, Some(&[name.to_owned()]), range).ranges.is_empty()
    };
    let version = || db.changed_since(0, None, TimeRange::ALL).version;
    // The first time each is a new series, and then one that is known.
    for round in 0..2 {
        for (name, other) in [("a", "b"), ("b", "a")] {
            let before = version();
            append("__name__", name);
            assert!(changed(before, name) && !changed(before, other), "{name}, round {round}");
        }
        let before = version();
        append("job", "x");
        assert!(changed(before, "a") && changed(before, "b"), "one without a name may be any, round {round}");
    }
}
