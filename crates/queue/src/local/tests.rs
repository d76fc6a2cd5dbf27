use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use clap::Parser;

use prometheus::Registry;
use runtime::Shutdown;

use super::*;
use crate::component::{Deps, Started, start};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(dir: &Path) -> Args {
    let mut args = Cli::parse_from(["queue", "--queue-partitions", "2"]).args;
    args.dir = dir.to_owned();
    args
}

async fn open(args: Args) -> Result<(Started, runtime::ShutdownTrigger, Registry), Error> {
    let (trigger, shutdown) = Shutdown::new();
    let registry = Registry::new();
    start(args, Deps::default(), &registry, shutdown).await.map(|started| (started, trigger, registry))
}

async fn close(started: Started, trigger: runtime::ShutdownTrigger) {
    trigger.ask();
    drop(started.log);
    started.component.drained.await.expect("drains");
}

async fn read_all(log: &dyn Log, partition: u32) -> Vec<Bytes> {
    let Bounds { start: mut next, end } = log.bounds(partition).await.expect("bounds");
    let mut out = Vec::new();
    while next < end {
        let records = log.fetch(partition, next, 1 << 16, Duration::ZERO).await.expect("read");
        next = records.last().expect("progress").offset + 1;
        out.extend(records.into_iter().map(|r| r.payload));
    }
    out
}

fn payloads(n: u32) -> Vec<Bytes> {
    (0..n).map(|i| Bytes::from(vec![i as u8; 100])).collect()
}

async fn filled(dir: &Path, segment_bytes: u64, n: u32) -> Vec<Bytes> {
    let mut args = args(dir);
    args.queue_segment_bytes = segment_bytes;
    let (started, trigger, _) = open(args).await.expect("opens");
    for payload in payloads(n) {
        started.log.append(0, payload, 5).await.expect("appended");
    }
    close(started, trigger).await;
    payloads(n)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("0")).expect("readable");
    let mut paths: Vec<_> =
        entries.map(|e| e.expect("entry").path()).filter(|p| p.extension().is_some_and(|e| e == "log")).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn log_in_process_conforms() {
    let dirs: Vec<_> = (0..crate::conformance::PARTS).map(|_| tempfile::tempdir().expect("directory")).collect();
    let mut dirs_left = dirs.iter();
    let mut kept = Vec::new();
    crate::conformance::run(|| {
        let dir = dirs_left.next().expect("one directory a part").path().to_owned();
        let opened = futures_util::FutureExt::now_or_never(async { dir });
        let dir = opened.expect("ready");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        kept.push(receiver);
        async move {
            let (started, trigger, registry) = open(args(&dir)).await.expect("opens");
            let log = started.log.clone();
            let _ = sender.send((started, trigger, registry));
            log
        }
    })
    .await;
    assert_eq!(kept.len(), crate::conformance::PARTS);
}

#[tokio::test]
async fn records_over_many_segments_survive_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let expect = filled(dir.path(), 1000, 50).await;
    assert!(segments(dir.path()).len() > 3);
    let (started, trigger, _) = open(args(dir.path())).await.expect("opens");
    assert_eq!(read_all(&*started.log, 0).await, expect);
    assert_eq!(started.log.append(0, Bytes::new(), 0).await.expect("appended"), 50);
    close(started, trigger).await;
}

#[tokio::test]
async fn indexes_that_are_lost_or_wrong_are_made_anew() {
    let dir = tempfile::tempdir().expect("directory");
    let expect = filled(dir.path(), 1000, 50).await;
    let other = tempfile::tempdir().expect("directory");
    filled(other.path(), 2000, 50).await;
    let other_index = fs::read(segments(other.path())[0].with_extension("index")).expect("read");
    for (n, segment) in segments(dir.path()).iter().enumerate() {
        let index = segment.with_extension("index");
        match n % 4 {
            0 => drop(fs::remove_file(index)),
            1 => fs::write(index, b"weirqix1 nonsense").expect("written"),
            // Whole, but of a segment of another size.
            2 => fs::write(index, &other_index).expect("written"),
            _ => {}
        }
    }
    let (started, trigger, _) = open(args(dir.path())).await.expect("opens");
    assert_eq!(read_all(&*started.log, 0).await, expect);
    close(started, trigger).await;
}

#[tokio::test]
async fn consumer_resumes_after_a_torn_tail_cut_at_every_length() {
    let dir = tempfile::tempdir().expect("directory");
    let expect = filled(dir.path(), 1 << 20, 3).await;
    let path = segments(dir.path()).pop().expect("one");
    let whole = fs::read(&path).expect("read");
    let batch = whole.len() / 3;
    for cut in (2 * batch + 1..whole.len()).step_by(7) {
        fs::write(&path, &whole[..cut]).expect("written");
        let (started, trigger, _) = open(args(dir.path())).await.expect("opens");
        assert_eq!(read_all(&*started.log, 0).await, expect[..2], "cut at {cut}");
        assert_eq!(started.log.append(0, expect[2].clone(), 0).await.expect("appended"), 2);
        assert_eq!(read_all(&*started.log, 0).await, expect);
        close(started, trigger).await;
    }
    // What a file system may leave of a write that was not synced: zeros.
    let mut zeros = whole[..2 * batch].to_vec();
    zeros.resize(whole.len() + 500, 0);
    fs::write(&path, zeros).expect("written");
    let (started, trigger, registry) = open(args(dir.path())).await.expect("opens");
    assert_eq!(read_all(&*started.log, 0).await, expect[..2]);
    let cut = registry.gather().into_iter().find(|f| f.name() == "weir_queue_recovery_truncated_bytes_total");
    assert_eq!(cut.expect("family").get_metric()[0].get_counter().get_value(), (batch + 500) as f64);
    close(started, trigger).await;
}

#[tokio::test]
async fn damage_before_the_tail_is_an_error_with_file_and_position() {
    let dir = tempfile::tempdir().expect("directory");
    filled(dir.path(), 1 << 20, 3).await;
    let path = segments(dir.path()).pop().expect("one");
    let batch = fs::metadata(&path).expect("metadata").len() / 3;
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(b"!", batch + 70).expect("written");
    let error = open(args(dir.path())).await.err().expect("refused").to_string();
    assert!(error.contains(&format!("{} is corrupt at byte {batch}", path.display())), "{error}");
}

#[tokio::test]
async fn a_missing_segment_is_an_error() {
    let dir = tempfile::tempdir().expect("directory");
    filled(dir.path(), 1000, 50).await;
    fs::remove_file(&segments(dir.path())[1]).expect("removed");
    let error = open(args(dir.path())).await.err().expect("refused").to_string();
    assert!(error.contains("are missing before it"), "{error}");
}

#[tokio::test]
async fn a_directory_is_opened_by_one_process_at_a_time() {
    let dir = tempfile::tempdir().expect("directory");
    let (started, trigger, _) = open(args(dir.path())).await.expect("opens");
    let error = open(args(dir.path())).await.err().expect("refused").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    close(started, trigger).await;
}

#[tokio::test]
async fn an_append_after_the_end_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    let (started, trigger, _) = open(args(dir.path())).await.expect("opens");
    let log = started.log.clone();
    close(started, trigger).await;
    assert!(matches!(log.append(0, Bytes::new(), 0).await, Err(Error::Poisoned(_))));
}

#[tokio::test]
async fn retention_keeps_what_a_consumer_has_not_read_up_to_the_hard_limit() {
    let dir = tempfile::tempdir().expect("directory");
    filled(dir.path(), 1000, 100).await;
    let mut args = args(dir.path());
    args.queue_retention = Duration::from_millis(10);
    let metrics = Metrics::new(&Registry::new()).expect("registers");
    let (log, writers) = LocalLog::open(&args, metrics.clone()).expect("opens");
    let start = |log: &LocalLog| log.partitions[0].bounds().start;
    log.keep_house(&args, 1_000_000).expect("runs");
    assert_eq!(start(&log), 0, "nobody has read anything");
    log.groups.commit("storage", 0, 60).expect("noted");
    log.groups.commit("alerting", 0, 30).expect("noted");
    log.keep_house(&args, 1_000_000).expect("runs");
    assert!((20..=30).contains(&start(&log)), "up to the slower of the two: {}", start(&log));
    let before = start(&log);
    args.queue_retention = Duration::from_secs(3600);
    log.keep_house(&args, 1000).expect("runs");
    assert_eq!(start(&log), before, "young and small enough");
    assert_eq!(metrics.forced_removals.get(), 0);
    args.queue_retention_bytes = 2 * 500;
    log.keep_house(&args, 1000).expect("runs");
    assert!(start(&log) > 60, "beyond the hard limit unread records go too: {}", start(&log));
    assert!(metrics.forced_removals.get() > 0);
    log.partitions.iter().for_each(|p| p.close());
    writers.into_iter().for_each(|w| w.join().expect("ends"));
}

#[tokio::test]
async fn a_failed_write_stops_the_log_and_fails_everything_that_waits() {
    let dir = tempfile::tempdir().expect("directory");
    let (started, _trigger, registry) = open(args(dir.path())).await.expect("opens");
    // Where a directory is in the way, the segment cannot be made.
    fs::create_dir(dir.path().join("0/00000000000000000000.log")).expect("made");
    let appends = (0..5).map(|_| started.log.append(0, Bytes::new(), 0));
    for refused in futures_util::future::join_all(appends).await {
        assert!(matches!(refused, Err(Error::Poisoned(_))), "{refused:?}");
    }
    let error = started.component.drained.await.expect_err("ends unasked, with an error").to_string();
    assert!(error.contains("00000000000000000000.log"), "{error}");
    assert!(matches!(started.log.append(1, Bytes::new(), 0).await, Err(Error::Poisoned(_))));
    let gauge = registry.gather().into_iter().find(|f| f.name() == "weir_queue_poisoned").expect("family");
    assert_eq!(gauge.get_metric()[0].get_gauge().get_value(), 1.0);
}

#[tokio::test]
async fn a_write_that_cannot_be_taken_back_stops_the_log() {
    let dir = tempfile::tempdir().expect("directory");
    let metrics = Metrics::new(&Registry::new()).expect("registers");
    let (log, writers) = LocalLog::open(&args(dir.path()), metrics).expect("opens");
    log.append(0, Bytes::from_static(b"first"), 0).await.expect("appended");
    // This device is always full, and cannot be truncated.
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/full").expect("opens");
    log.partitions[0].replace_file(device);
    let refused = log.append(0, Bytes::from_static(b"second"), 0).await;
    assert!(matches!(refused, Err(Error::Poisoned(_))), "{refused:?}");
    assert_eq!(log.bounds(0).await.expect("bounds"), Bounds { start: 0, end: 1 });
    log.partitions.iter().for_each(|p| p.close());
    writers.into_iter().for_each(|w| w.join().expect("ends"));
}

#[tokio::test]
async fn a_full_disk_refuses_appends_until_there_is_room() {
    let dir = tempfile::tempdir().expect("directory");
    let metrics = Metrics::new(&Registry::new()).expect("registers");
    let (log, writers) = LocalLog::open(&args(dir.path()), metrics).expect("opens");
    log.append(0, Bytes::from_static(b"first"), 0).await.expect("appended");
    let path = segments(dir.path()).pop().expect("one");
    let whole = fs::read(&path).expect("read");
    // What a write that met a full disk leaves.
    let file = fs::OpenOptions::new().write(true).open(&path).expect("opens");
    file.write_all_at(b"a part of the second", whole.len() as u64).expect("written");
    let refused = log.partitions[0].take_back(std::io::ErrorKind::StorageFull.into());
    assert!(matches!(refused, Error::Full(_)), "{refused}");
    assert_eq!(fs::read(&path).expect("read"), whole, "the part is gone");
    assert_eq!(log.append(0, Bytes::from_static(b"second"), 0).await.expect("there is room again"), 1);
    let refused = log.partitions[0].take_back(std::io::Error::other("broken"));
    assert!(matches!(refused, Error::Io { .. }), "not full, so not retried: {refused}");
    log.partitions.iter().for_each(|p| p.close());
    writers.into_iter().for_each(|w| w.join().expect("ends"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_segment_has_blocks_ahead_of_it_as_long_as_it_is_written() {
    use std::os::unix::fs::MetadataExt;

    /// Size of a file, and of its blocks.
    fn sizes(path: &Path) -> (u64, u64) {
        let of = fs::metadata(path).expect("metadata");
        (of.len(), of.blocks() * 512)
    }
    let dir = tempfile::tempdir().expect("directory");
    // Whether this file system can.
    let probe = fs::File::create(dir.path().join("probe")).expect("created");
    crate::files::take_blocks(&probe, 0, 1 << 20);
    let can = sizes(&dir.path().join("probe")) == (0, 1 << 20);
    let mut args = args(&dir.path().join("log"));
    args.queue_segment_bytes = 1 << 20;
    let (started, trigger, _) = open(args).await.expect("opens");
    let mut written = 0;
    for n in 0..30 {
        started.log.append(0, Bytes::from(vec![7; 100_000]), 5).await.expect("appended");
        let all = segments(&dir.path().join("log"));
        let (full, active) = all.split_at(all.len() - 1);
        for (size, blocks) in full.iter().map(|path| sizes(path)) {
            assert!(blocks < size + 64 * 1024, "{n}: {blocks} bytes of blocks for {size}");
        }
        let (size, blocks) = sizes(&active[0]);
        assert!(size % 100_000 < 10_000, "{n}: the file ends with what was written, at {size}");
        assert!(!can || blocks >= 1 << 20, "{n}: {blocks} bytes of blocks");
        written = all.len();
    }
    close(started, trigger).await;
    let all = segments(&dir.path().join("log"));
    assert!(all.len() == written && written > 2, "{written}");
    for (size, blocks) in all.iter().map(|path| sizes(path)) {
        assert!(blocks < size + 64 * 1024, "{blocks} bytes of blocks for {size}");
    }
}

#[tokio::test]
async fn a_dropped_append_is_in_the_log_all_the_same() {
    let dir = tempfile::tempdir().expect("directory");
    let (started, trigger, _) = open(args(dir.path())).await.expect("opens");
    let dropped = started.log.append(0, Bytes::from_static(b"first"), 0);
    // Polled once and dropped.
    assert!(futures_util::FutureExt::now_or_never(dropped).is_none_or(|done| done.is_ok()));
    assert_eq!(started.log.append(0, Bytes::from_static(b"second"), 0).await.expect("appended"), 1);
    assert_eq!(read_all(&*started.log, 0).await, ["first", "second"].map(Bytes::from));
    close(started, trigger).await;
}

#[tokio::test]
async fn partitions_without_the_file_of_their_number_are_refused() {
    let dir = tempfile::tempdir().expect("directory");
    filled(dir.path(), 1000, 1).await;
    fs::remove_file(dir.path().join("meta")).expect("removed");
    assert!(matches!(open(args(dir.path())).await.err(), Some(Error::Corrupt { .. })));
}

#[tokio::test]
async fn the_number_of_partitions_is_that_of_the_creation() {
    let dir = tempfile::tempdir().expect("directory");
    filled(dir.path(), 1000, 1).await;
    let mut args = args(dir.path());
    args.queue_partitions = 7;
    let (started, trigger, _) = open(args).await.expect("opens");
    assert_eq!(started.log.partitions(), 2);
    close(started, trigger).await;
}

#[tokio::test]
async fn the_status_tells_depth_peak_and_processed() {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let (started, trigger, registry) = open(args(dir.path())).await.expect("opens");
    for partition in [0, 0, 1] {
        started.log.append(partition, Bytes::from_static(b"x"), 0).await.expect("appended");
    }
    started.log.commit("storage", 0, 2).await.expect("committed");
    let request = axum::http::Request::get("/api/v1/queue").body(axum::body::Body::empty()).expect("valid");
    let response = started.component.router.clone().oneshot(request).await.expect("answers");
    let body = response.into_body().collect().await.expect("read").to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status["groups"]["storage"], serde_json::json!({"depth": 1, "peak": 3, "processed": 2}));
    assert_eq!(status["groups"]["alerting"], serde_json::json!({"depth": 3, "peak": 3, "processed": 0}));
    assert_eq!(status["partitions"][0]["commits"], serde_json::json!({"storage": 2}));
    assert_eq!((&status["partitions"][0]["end"], &status["partitions"][1]["end"]), (&2.into(), &1.into()));
    let depth = registry.gather().into_iter().find(|f| f.name() == "weir_queue_depth_records").expect("family");
    assert_eq!(depth.get_metric().len(), 2);
    close(started, trigger).await;
}

#[tokio::test]
async fn who_has_read_a_record_is_past_no_end() {
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let metrics = Metrics::new(&Registry::new()).expect("registers");
    let (log, writers) = LocalLog::open(&args(dir.path()), metrics).expect("opens");
    log.append(0, Bytes::from("a"), 0).await.expect("appended");
    let mut append = log.append(0, Bytes::from("b"), 0);
    // Held after the second record can be read and before its append is told.
    let after = log.groups.hold(|| {
        assert!((&mut append).now_or_never().is_none());
        // Outside the runtime's budget: a task that never rests would be told "not yet" for ever once it is used up.
        let fetch = |from| tokio::task::unconstrained(log.fetch(0, from, 1 << 16, Duration::ZERO)).now_or_never();
        while fetch(0).is_none_or(|read| read.expect("reads").len() < 2) {
            std::thread::yield_now();
        }
        log.partitions[0].check_offset(2).map(|bounds| bounds.end)
    });
    assert_eq!(after.expect("it is the end"), 2);
    append.await.expect("appended");
    log.close();
    writers.into_iter().for_each(|w| w.join().expect("ends"));
}

#[tokio::test]
async fn appends_that_wait_are_bounded_in_bytes() {
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let registry = Registry::new();
    let (log, writers) = LocalLog::open(&args(dir.path()), Metrics::new(&registry).expect("registers")).expect("opens");
    let payload = Bytes::from(vec![0; crate::RECORD_BYTES_MAX]);
    let mut waiting = Vec::new();
    let refused = log.partitions[0].hold_writer_then_poison("done with it", || {
        loop {
            let mut append = log.append(0, payload.clone(), 0);
            match (&mut append).now_or_never() {
                Some(result) => break result,
                None => waiting.push(append),
            }
        }
    });
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    assert_eq!(waiting.len(), 8, "64 MiB in records of 8");
    for append in waiting {
        assert!(matches!(append.await, Err(Error::Poisoned(reason)) if reason == "done with it"));
    }
    let rejected = registry.gather().into_iter().find(|f| f.name() == "weir_queue_rejected_appends_total");
    let of_waiting = |m: &&prometheus::proto::Metric| m.get_label()[0].value() == "waiting";
    let rejected = rejected.expect("family").get_metric().iter().find(of_waiting).map(|m| m.get_counter().get_value());
    assert_eq!(rejected, Some(1.0));
    log.partitions.iter().for_each(|p| p.close());
    writers.into_iter().for_each(|w| w.join().expect("ends"));
}

#[tokio::test]
async fn records_and_batches_that_wait_together_keep_their_order() {
    use crate::batch::{foreign::Foreign, write};
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let metrics = Metrics::new(&Registry::new()).expect("registers");
    let (log, writers) = LocalLog::open(&args(dir.path()), metrics.clone()).expect("opens");
    let batch = |payloads: &[&'static str]| {
        let records: Vec<_> = payloads.iter().map(|p| (5, Bytes::from(*p))).collect();
        let mut bytes = Vec::new();
        write(&mut bytes, 0, None, &records);
        Foreign::read(&bytes).expect("taken")
    };
    let partition = &log.partitions[0];
    let record =
        |payload: &'static str| partition.append(payload.into(), 5).map(|done| done.expect("appended")).boxed();
    let whole = |payloads| partition.append_batch(batch(payloads)).map(|done| done.expect("appended")).boxed();
    let mut waiting = vec![record("a"), record("b"), record("c"), whole(&["d", "e"]), record("f"), whole(&["g"])];
    partition.hold_writer(|| {
        for append in &mut waiting {
            assert!(append.now_or_never().is_none(), "the writer is held");
        }
    });
    assert_eq!(futures_util::future::join_all(waiting).await, [0, 1, 2, 3, 5, 6]);
    let expect: Vec<Bytes> = ["a", "b", "c", "d", "e", "f", "g"].map(Bytes::from).to_vec();
    assert_eq!(read_all(&log, 0).await, expect);
    assert_eq!(metrics.records.get(), 7);
    log.close();
    writers.into_iter().for_each(|w| w.join().expect("ends"));
    // From the disk too.
    let (started, trigger, _) = {
        drop(log);
        open(args(dir.path())).await.expect("opens")
    };
    assert_eq!(read_all(&*started.log, 0).await, expect);
    close(started, trigger).await;
}

#[test]
fn meta_is_golden() {
    let dir = tempfile::tempdir().expect("directory");
    assert_eq!(super::partitions(dir.path(), 4).expect("created"), 4);
    let golden = "weir-queue 1\npartitions 4\n";
    assert_eq!(fs::read_to_string(dir.path().join("meta")).expect("read"), golden);
    let other = tempfile::tempdir().expect("directory");
    fs::write(other.path().join("meta"), golden).expect("written");
    assert_eq!(super::partitions(other.path(), 9).expect("read"), 4);
}
