//! Answers that are kept: how often storage is asked for them, and the memory of their copies.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use model::Budget;

use super::support::{Behaviour, NOW_MS, Server};

/// Two series of 10,001 steps each.
const RANGE: &str = "/api/v1/query_range?query=many&start=1699990000&end=1700000000&step=1";
/// What a step of a series takes.
const SAMPLE_BYTES: usize = 16;

fn server(words: &[&str], memory: Budget) -> Server {
    let server = Server::with_memory(words, memory);
    let samples: Vec<(i64, f64)> = (0..10_001).map(|n| (NOW_MS - 10_000_000 + n * 1000, n as f64)).collect();
    for host in ["a", "b"] {
        server.memory.add(&[("__name__", "many"), ("host", host)], &samples);
    }
    server.memory.account.is_kept.store(true, Ordering::SeqCst);
    server
}

/// Asks, and tells how often storage was read and asked what changed.
async fn ask(server: &Server, path: &str) -> (String, u64, u64) {
    let account = &server.memory.account;
    let before = (account.selects.load(Ordering::SeqCst), account.asked.load(Ordering::SeqCst));
    let (status, answer) = server.get(path).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let (selects, asked) = (account.selects.load(Ordering::SeqCst), account.asked.load(Ordering::SeqCst));
    (answer, selects - before.0, asked - before.1)
}

#[tokio::test]
async fn storage_is_asked_what_changed_where_that_can_save_reading_it() {
    for marks_reads in [true, false] {
        let server = server(&[], Budget::default());
        server.memory.account.marks_reads.store(marks_reads, Ordering::SeqCst);
        let (first, selects, asked) = ask(&server, RANGE).await;
        assert_eq!((selects, asked), (1, u64::from(!marks_reads)), "nothing was known");
        let (again, selects, asked) = ask(&server, RANGE).await;
        assert_eq!((again == first, selects, asked), (true, 0, 1), "all was known");
        server.memory.account.version.store(1, Ordering::SeqCst);
        let (again, selects, asked) = ask(&server, RANGE).await;
        assert_eq!((again == first, selects, asked), (true, 1, 1), "all changed");
        let (again, selects, asked) = ask(&server, RANGE).await;
        assert_eq!((again == first, selects, asked), (true, 0, 1), "and is known again");
        // Of other times nothing is known.
        let (_, selects, asked) =
            ask(&server, &RANGE.replace("=1699990000", "=1599990000").replace("=17", "=16")).await;
        assert_eq!((selects, asked), (1, u64::from(!marks_reads)));
        let results = ["hit", "partial", "miss"]
            .map(|result| server.metric(&format!("weir_query_cache_requests_total{{result=\"{result}\"}}")));
        assert_eq!(results, [2.0, 0.0, 3.0]);
    }
}

#[tokio::test]
async fn an_answer_that_may_not_be_kept_is_evaluated_once() {
    for marks_reads in [true, false] {
        let server = server(&[], Budget::default());
        server.memory.account.marks_reads.store(marks_reads, Ordering::SeqCst);
        server.memory.behave(Behaviour::Warn);
        let (answer, selects, _) = ask(&server, RANGE).await;
        assert_eq!((answer.contains("block 7 is in quarantine"), selects), (true, 1));
        assert_eq!(server.metric("weir_query_cache_bytes"), 0.0);
        // What is known holds for some steps; those that are evaluated beside may not be put together with it.
        ask(&server, RANGE).await;
        server.memory.behave(Behaviour::Warn);
        let (answer, selects, _) = ask(&server, &RANGE.replace("end=1700000000", "end=1700000001")).await;
        assert_eq!(
            (answer.contains("block 7 is in quarantine"), selects),
            (false, 2),
            "all at once, without the first"
        );
        let histogram = "/api/v1/query_range?query=native&start=1699990000&end=1700000000&step=1";
        server.memory.add_histogram(&[("__name__", "native")], NOW_MS);
        for _ in 0..2 {
            let (answer, selects, _) = ask(&server, histogram).await;
            assert_eq!((answer.contains("histograms"), selects), (true, 1));
        }
    }
}

#[tokio::test]
async fn copies_of_what_is_kept_are_counted_for_the_query_that_takes_them() {
    let memory = Budget::new("queries", 16 << 20);
    let server = server(&[], memory.clone());
    let (first, ..) = ask(&server, RANGE).await;
    let kept = server.metric("weir_query_cache_bytes") as usize;
    assert!(kept >= 2 * 10_001 * SAMPLE_BYTES, "{kept}");
    assert_eq!(memory.held(), kept, "that and nothing else");
    let others = memory.claim();
    // Room for the pieces of the answer, and for half of the copy.
    others.set((16 << 20) - kept - (1100 << 10) - kept / 2);
    let (status, answer) = server.get(RANGE).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
    assert!(answer.contains("too little memory for queries"), "{answer}");
    others.set((16 << 20) - kept - (1300 << 10) - kept);
    let (again, selects, _) = ask(&server, RANGE).await;
    assert_eq!((again == first, selects), (true, 0));
    drop(others);
    assert_eq!(memory.held(), kept);
}

#[tokio::test]
async fn an_answer_that_is_larger_than_all_that_may_be_kept_is_not_copied() {
    let peak = async |cache_bytes: &str| {
        let memory = Budget::new("queries", 64 << 20);
        let server = server(&["--query-cache-bytes", cache_bytes], memory.clone());
        ask(&server, RANGE).await;
        (memory.peak(), server.metric("weir_query_cache_bytes"), server.metric("weir_query_cache_evictions_total"))
    };
    let (without, ..) = peak("0").await;
    let (with_too_little, bytes, evictions) = peak("300000").await;
    assert_eq!((with_too_little, bytes, evictions), (without, 0.0, 0.0));
    let (with_enough, bytes, _) = peak("4000000").await;
    assert!(bytes > 300_000.0 && with_enough > without, "{with_enough} where it was {without}");
}
