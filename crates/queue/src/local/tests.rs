use std::os::unix::fs::FileExt;

use clap::Parser;

use super::*;

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
    let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().expect("directory")).collect();
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
    assert_eq!(kept.len(), 5);
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
    for (n, segment) in segments(dir.path()).iter().enumerate() {
        let index = segment.with_extension("index");
        match n % 3 {
            0 => drop(fs::remove_file(index)),
            1 => fs::write(index, b"weirqix1 nonsense").expect("written"),
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
