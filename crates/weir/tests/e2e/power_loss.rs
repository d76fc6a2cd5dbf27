//! Loss of power: like the crash test, but after each kill every byte that was not fsynced is dropped, and every directory
//! entry whose directory was not. See `disk`.

use crate::crash::{Plan, assert_none, differences, logged, survive};
use crate::disk::Disk;
use crate::weir::Launch;

fn under<'a>(mut launch: Launch<'a>, disk: &Disk, lie: &str) -> Launch<'a> {
    for (name, value) in disk.env() {
        launch = launch.env(name, value);
    }
    launch.env("POWERLOSS_LIE", lie)
}

async fn differences_after(plan: &Plan, lie: &str) -> (Vec<String>, Vec<String>) {
    let disk = std::cell::RefCell::new(Disk::of(tempfile::tempdir().expect("directory").path()));
    let first = disk.borrow().data();
    let (notes, data, found) =
        survive(plan, first, |launch| under(launch, &disk.borrow(), lie), |_| disk.borrow_mut().lose_power()).await;
    assert!(!notes.acknowledged.is_empty());
    (differences(&notes, &found), differences(&notes, &logged(&data).await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_of_power_under_load_loses_nothing_acknowledged_and_doubles_nothing() {
    let plan = Plan::from_env(20);
    let (queried, logged) = differences_after(&plan, "").await;
    assert_none(&queried, "by query", plan.seed);
    assert_none(&logged, "in the log", plan.seed);
}

/// The test of the test: with the log's fsync answered and not done, the loss is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_fsync_of_the_log_is_seen() {
    let plan = Plan { seed: 1, rounds: 2 };
    let (_, logged) = differences_after(&plan, ".log").await;
    assert!(!logged.is_empty(), "acknowledged samples that were never synced survived the loss of power");
}
