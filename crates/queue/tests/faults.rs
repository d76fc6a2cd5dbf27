//! The log with each call that it makes of the disk going wrong: it begins, takes records over several segments, notes a commit, ends, and begins again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Parser;
use prometheus::Registry;
use queue::{Args, Bounds, Deps, Started, start};
use runtime::{Shutdown, ShutdownTrigger};

#[path = "../../runtime/tests/support/faults.rs"]
mod faults;

use faults::{Child, Scene, child, each_call, folder, no_child_begins};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const OWN: &str = "after_a_fault_at_any_call_what_was_acknowledged_is_there_once";

async fn open(dir: &Path) -> Result<(Started, ShutdownTrigger), queue::Error> {
    let words =
        ["queue", "--queue-partitions", "1", "--queue-segment-bytes", "200", "--queue-holding-groups", "storage"];
    let mut args = Cli::parse_from(words).args;
    args.dir = dir.join("queue");
    let (trigger, shutdown) = Shutdown::new();
    Ok((start(args, Deps::default(), &Registry::new(), shutdown).await?, trigger))
}

/// Ends a log, and waits for it.
async fn close(started: Started, trigger: ShutdownTrigger) {
    trigger.ask();
    drop(started.log);
    let _ = started.component.drained.await;
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("starts").block_on(work)
}

/// Two lives of a log, and one more for each that ended early. Each record is another one.
async fn live(child: &Child) {
    let (mut lives, mut failures) = (0, 0);
    while lives < 2 {
        assert!(failures < 3, "one call fails, and what follows from it once");
        let Ok((started, trigger)) = open(&child.data).await else {
            failures += 1;
            continue;
        };
        let mut is_well = true;
        for n in 0..3 {
            let text = format!("{}-{lives}-{failures}-{n}-{}", std::process::id(), "x".repeat(50));
            match started.log.append(0, text.clone().into(), 5).await {
                Ok(offset) => child.tell(&format!("{offset} {text}")),
                Err(_) => is_well = false,
            }
        }
        is_well &= started.log.commit("storage", 0, 3).await.is_ok();
        close(started, trigger).await;
        (lives, failures) = if is_well { (lives + 1, failures) } else { (lives, failures + 1) };
    }
}

/// All records by their offsets.
async fn read(dir: &Path) -> BTreeMap<i64, String> {
    let (started, trigger) = open(dir).await.expect("opens");
    let Bounds { start: mut next, end } = started.log.bounds(0).await.expect("bounds");
    let mut found = BTreeMap::new();
    while next < end {
        let records = started.log.fetch(0, next, 1 << 16, Duration::ZERO).await.expect("read");
        next = records.last().expect("progress").offset + 1;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        found.extend(records.into_iter().map(|record| (record.offset, text(&record.payload))));
    }
    close(started, trigger).await;
    found
}

fn check(scene: &Scene, acknowledged: &[String]) {
    let copy = scene.copy();
    let _no_child_has_its_lock = no_child_begins();
    let found = in_runtime(read(copy.path()));
    for line in acknowledged {
        let (offset, text) = line.split_once(' ').expect("an offset");
        assert_eq!(found.get(&offset.parse().expect("a number")).map(String::as_str), Some(text), "{line}");
    }
    let each: std::collections::BTreeSet<&String> = found.values().collect();
    assert_eq!(each.len(), found.len(), "each once: {found:?}");
}

#[test]
fn after_a_fault_at_any_call_what_was_acknowledged_is_there_once() {
    if let Some(child) = child() {
        child.begin();
        return in_runtime(live(&child));
    }
    let nothing = folder();
    let calls = each_call(OWN, nothing.path(), false, |scene| {
        let mut acknowledged = scene.told.clone();
        check(scene, &acknowledged);
        if scene.was_killed {
            scene.run(None);
            acknowledged.extend(scene.told.clone());
        }
        check(scene, &acknowledged);
        scene.lose_power();
        check(scene, &acknowledged);
        assert!(acknowledged.len() >= 6, "{acknowledged:?}");
    });
    assert!(calls > 50, "{calls}");
}
