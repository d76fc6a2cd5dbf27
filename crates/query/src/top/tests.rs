use std::cell::Cell;

use prometheus::Registry;

use super::*;

thread_local! {
    static NOW_MS: Cell<i64> = const { Cell::new(0) };
}

fn top(evaluations_max: usize, text_bytes_max: usize) -> Top {
    let metrics = Metrics::try_register(&Registry::new()).expect("registers");
    Top::with_bounds(|| NOW_MS.get(), metrics, evaluations_max, text_bytes_max)
}

fn remember(top: &Top, text: &str, range_ms: i64, took_ms: u64) {
    let subject = Subject::new("query", text, None).at(0, range_ms, 1);
    top.remember(&subject, Duration::from_millis(took_ms));
}

fn texts(asked: &[Asked]) -> Vec<(&str, u32, u64)> {
    asked.iter().map(|one| (&*one.question.text, one.count, one.took.as_millis() as u64)).collect()
}

#[test]
fn questions_are_in_three_orders() {
    let top = top(100, 10_000);
    for _ in 0..3 {
        remember(&top, "often", 0, 1);
    }
    remember(&top, "slow", 0, 50);
    for _ in 0..2 {
        remember(&top, "much", 0, 40);
    }
    let lists = top.lists(10, i64::MAX);
    assert_eq!(texts(&lists.by_count), [("often", 3, 3), ("much", 2, 80), ("slow", 1, 50)]);
    assert_eq!(texts(&lists.by_average), [("slow", 1, 50), ("much", 2, 80), ("often", 3, 3)]);
    assert_eq!(texts(&lists.by_sum), [("much", 2, 80), ("slow", 1, 50), ("often", 3, 3)]);
    assert_eq!(lists.by_sum[0].average(), Duration::from_millis(40));
    assert_eq!(texts(&top.lists(1, i64::MAX).by_sum), [("much", 2, 80)]);
    assert!(top.lists(0, i64::MAX).by_sum.is_empty());
}

#[test]
fn another_range_is_another_question() {
    let top = top(100, 10_000);
    remember(&top, "a", 60_000, 1);
    remember(&top, "a", 60_999, 1);
    remember(&top, "a", 3_600_000, 1);
    let counts: Vec<_> =
        top.lists(10, i64::MAX).by_count.iter().map(|one| (one.question.range_seconds, one.count)).collect();
    assert_eq!(counts, [(60, 2), (3600, 1)]);
}

#[test]
fn what_is_older_than_asked_for_is_left_out() {
    let top = top(100, 10_000);
    for (now_ms, text) in [(1000, "old"), (5000, "new")] {
        NOW_MS.set(now_ms);
        remember(&top, text, 0, 1);
    }
    assert_eq!(texts(&top.lists(10, 4000).by_count), [("new", 1, 1), ("old", 1, 1)]);
    assert_eq!(texts(&top.lists(10, 3999).by_count), [("new", 1, 1)]);
}

#[test]
fn the_oldest_make_room_and_their_texts_are_given_back() {
    let top = top(3, 10_000);
    for text in ["a", "b", "a", "c", "d"] {
        remember(&top, text, 0, 1);
    }
    assert_eq!(texts(&top.lists(10, i64::MAX).by_count), [("a", 1, 1), ("c", 1, 1), ("d", 1, 1)]);
    assert_eq!((top.metrics.remembered.get(), top.metrics.forgotten.get()), (3, 2));
    assert_eq!(top.metrics.remembered_bytes.get(), 3 * (1 + ENTRY as i64));
}

#[test]
fn texts_have_a_bound_of_their_own() {
    let top = top(100, 3 * (10 + ENTRY));
    for n in 0..10 {
        remember(&top, &format!("{n}123456789"), 0, 1);
    }
    let kept: Vec<_> = top.lists(10, i64::MAX).by_count;
    assert_eq!(kept.len(), 3);
    assert_eq!(&*kept[0].question.text, "7123456789");
    assert_eq!(top.metrics.remembered_bytes.get(), 3 * (10 + ENTRY as i64));
    // One that does not fit at all is not kept, and nothing else either.
    remember(&top, &"x".repeat(1000), 0, 1);
    assert!(top.lists(10, i64::MAX).by_count.is_empty());
    assert_eq!(top.metrics.remembered_bytes.get(), 0);
}
