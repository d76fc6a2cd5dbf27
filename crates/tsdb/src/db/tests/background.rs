use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::*;

/// Nothing is measured; on a machine that is busy it is slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where threads that stand back tell that they are there, and wait.
struct Gate {
    arrived: SyncSender<(Background, ThreadId)>,
    released: Mutex<Receiver<()>>,
}

static GATE: OnceLock<Gate> = OnceLock::new();

fn wait_at_the_gate(what: Background) {
    let gate = GATE.get().expect("set");
    gate.arrived.send((what, thread::current().id())).expect("the test runs");
    lock(&gate.released).recv().expect("the test runs");
}

#[test]
fn appends_and_queries_wait_for_no_thread_that_stands_back() {
    let (arrived, arrivals) = sync_channel(1);
    let (release, released) = sync_channel(1);
    assert!(GATE.set(Gate { arrived, released: Mutex::new(released) }).is_ok());
    let dir = tempfile::tempdir().expect("directory");
    let options = Options { stand_back: Some(wait_at_the_gate), ..options() };
    let db = Arc::new(Db::open(dir.path(), options).expect("opens"));
    append(&db, 0, &[Sample { t: 0, v: 0.0 }][..], 1);
    for turn in 1..=5 {
        let (own, is_merge) = (db.clone(), turn == 5);
        let work = thread::spawn(move || match is_merge {
            true => assert!(own.compact(&Cancel::default()).expect("merges")),
            false => drop(own.flush().expect("flushes")),
        });
        let (what, stands_back) = arrivals.recv_timeout(PATIENCE).expect("begins");
        assert_eq!(what, if is_merge { Background::Merge } else { Background::Flush });
        assert_ne!(stands_back, work.thread().id(), "who asked has locks to take");
        let (own, (done, is_done)) = (db.clone(), sync_channel(1));
        thread::spawn(move || {
            append(&own, turn, &[Sample { t: turn as i64, v: 0.0 }][..], turn as i64 + 1);
            own.stats();
            let all = LabelsRequest { matcher_sets: Vec::new(), range: TimeRange::ALL, cancel: Cancel::default() };
            own.label_names(&all).expect("lists");
            done.send(read(&own, TimeRange::ALL).len()).expect("the test runs");
        });
        assert_eq!(
            is_done.recv_timeout(PATIENCE),
            Ok(turn as usize + 1),
            "somebody waits for a thread that stands back"
        );
        release.send(()).expect("it waits");
        work.join().expect("ends");
    }
    assert_eq!((db.stats().flushes, db.stats().merges, db.stats().blocks), (4, 1, 1));
}
