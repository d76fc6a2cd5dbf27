//! The database with each call that it makes of the disk going wrong: it is made, positions are written three times, and it is opened again.

use super::*;

#[path = "../../../runtime/tests/support/faults.rs"]
mod faults;

use faults::{Child, Scene, child, each_call, folder};

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("starts").block_on(work)
}

/// Opens the database and writes positions beyond the one that it has. Whether all went well.
async fn life(child: &Child) -> bool {
    let Ok(store) = Store::open(&child.data.join("alerting")) else { return false };
    let mut is_well = store.follow("a log".to_owned()).await.is_ok();
    let found = store.restore().await.map(|(positions, _)| positions.get(&0).copied().unwrap_or(0));
    is_well &= found.is_ok();
    for n in 1..4 {
        let offset = found.as_ref().unwrap_or(&0) + n;
        let commit = Commit { positions: [(0, offset)].into(), ..Commit::default() };
        // After a write that failed the component stops.
        is_well = is_well && store.commit(commit).await.is_ok();
        if is_well {
            child.tell(&offset.to_string());
        }
    }
    store.close().await;
    is_well
}

fn check(scene: &Scene, told: i64) {
    let copy = scene.copy();
    let found = in_runtime(async {
        let store = Store::open(&copy.path().join("alerting")).expect("opens");
        let (positions, _) = store.restore().await.expect("reads");
        let is_other = store.follow("a log".to_owned()).await.expect("is noted");
        store.close().await;
        (positions.get(&0).copied().unwrap_or(0), is_other)
    });
    // One that failed may be there all the same.
    assert!((told..=told + 1).contains(&found.0) && !found.1, "{told} {found:?}");
}

#[test]
fn after_a_fault_at_any_call_what_was_committed_is_there() {
    if let Some(child) = child() {
        child.begin();
        let lives = in_runtime(async {
            let mut lives = 0;
            // One call fails, and what follows from it once.
            while !life(&child).await && lives < 3 {
                lives += 1;
            }
            lives
        });
        assert!(lives < 3, "it does not become well");
        return;
    }
    let nothing = folder();
    let own = "store::tests::after_a_fault_at_any_call_what_was_committed_is_there";
    let calls = each_call(own, nothing.path(), true, |scene| {
        let told = |scene: &Scene| scene.told.last().map_or(0, |line| line.parse().expect("a number"));
        let mut last = told(scene);
        check(scene, last);
        if scene.was_killed {
            scene.run(None);
            last = told(scene);
        }
        scene.lose_power();
        assert!(last >= 3, "{last}");
        check(scene, last);
    });
    assert!(calls > 40, "{calls}");
}
