//! Nodes that are down, slow, cut off, behind, or not the ones they should be: a warning or an error, never a wrong number.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{
    Budget, Cancel, CardinalityRequest, Classes, CountRequest, Kind, LabelsRequest, Matcher, Sample, SelectRequest,
    SeriesSource, TimeRange,
};
use prometheus::Registry;
use runtime::Token;
use storage::reader::{FanOut, Remote};
use storage::serve::Node;
use storage::{ChangesRequest, Reader, Replica};

use crate::proxy::Proxy;
use crate::support::{
    Bed, Cluster, Fake, PARTITIONS, PATIENCE, Samples, blocking, everything, fan_out, read, remote, select, series,
    serve,
};

/// Writes samples of some series into all partitions.
async fn fill(bed: &Bed, number: usize, samples: i64) -> Samples {
    let mut all = Samples::new();
    for n in 0..number {
        let values: Vec<Sample> = (0..samples).map(|t| Sample { t, v: (t as f64 + n as f64).sqrt() }).collect();
        bed.write(&series(n), &values).await;
        all.insert(series(n), values.iter().map(|s| (s.t, s.v.to_bits())).collect());
    }
    all
}

/// Those of these partitions.
fn only(all: &Samples, keep: impl Fn(u32) -> bool) -> Samples {
    let kept = all.iter().filter(|(labels, _)| keep(labels.as_ref().partition(PARTITIONS)));
    kept.map(|(labels, samples)| (labels.clone(), samples.clone())).collect()
}

/// How many series there are, and what is said of that.
async fn counted(reader: &Arc<storage::reader::FanOut>) -> (u64, Vec<String>) {
    let ask = CardinalityRequest {
        matcher_sets: vec![],
        range: TimeRange::ALL,
        classes: Classes::ONE,
        series_max: usize::MAX,
        cancel: Cancel::default(),
    };
    let counted = blocking(reader, move |reader| reader.cardinality(&ask).expect("answers")).await;
    let tally = &counted.tallies[&0];
    assert!(tally.labels.values().all(|values| values.values().sum::<u64>() == tally.series), "each has all labels");
    (tally.series, counted.warnings)
}

/// How many series have a newest sample, where the indexes can tell, and what is said of that.
async fn counted_newest<R: Reader + ?Sized>(reader: &Arc<R>) -> Option<(u64, Vec<String>)> {
    let matchers = vec![Matcher::equal("__name__", "m")];
    let ask = CountRequest { matchers, range: TimeRange::ALL, by: None, cancel: Cancel::default() };
    let counted = blocking(reader, move |reader| reader.count(&ask).expect("answers")).await?;
    Some((counted.groups.iter().map(|(_, series)| series).sum(), counted.warnings))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_down_makes_a_warning_in_every_answer() {
    let bed = Bed::new().await;
    let all = fill(&bed, 40, 3).await;
    let mut cluster = Cluster::start(&bed, 3, 1).await;
    assert_eq!(select(&cluster.reader).await.expect("answers"), (all.clone(), vec![]));
    cluster.take_down(0).await;
    let lost = format!("storage node {} is unreachable: partitions 0, 3 are missing from this answer", cluster.urls[0]);
    let (got, warnings) = select(&cluster.reader).await.expect("answers");
    assert_eq!((got, warnings), (only(&all, |p| p == 1 || p == 2), vec![lost.clone()]));
    let listed = blocking(&cluster.reader, |reader| {
        let ask = LabelsRequest { matcher_sets: vec![], range: TimeRange::ALL, cancel: Cancel::default() };
        let values = reader.label_values("n", &ask).expect("answers");
        assert_eq!(reader.label_names(&ask).expect("answers").warnings, values.warnings);
        assert_eq!(reader.metadata(None).expect("answers").warnings, values.warnings);
        values
    });
    let listed = listed.await;
    assert_eq!((listed.items.len(), listed.warnings), (only(&all, |p| p == 1 || p == 2).len(), vec![lost.clone()]));
    let (series, warnings) = counted(&cluster.reader).await;
    assert_eq!((series, warnings), (only(&all, |p| p == 1 || p == 2).len() as u64, vec![lost.clone()]));
    assert_eq!(counted_newest(&cluster.reader).await, Some((series, vec![lost.clone()])));
    cluster.take_down(1).await;
    let (got, warnings) = select(&cluster.reader).await.expect("answers");
    let more = format!("storage node {} is unreachable: partition 1 is missing from this answer", cluster.urls[1]);
    assert_eq!(got, only(&all, |p| p == 2));
    assert!(warnings.len() == 2 && warnings.contains(&lost) && warnings.contains(&more), "{warnings:?}");
    cluster.take_down(2).await;
    let error = blocking(&cluster.reader, |reader| reader.select(&everything()).expect_err("nobody is there")).await;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.starts_with("no storage node is reachable: "), "{error}");
    let error = cluster.reader.caught_up(Duration::from_secs(5)).await.expect_err("nobody is there");
    assert_eq!(error.kind, Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_copies_a_node_that_is_down_is_not_missed_and_two_are() {
    let bed = Bed::new().await;
    let all = fill(&bed, 40, 3).await;
    let mut cluster = Cluster::start(&bed, 3, 2).await;
    for _ in 0..5 {
        assert_eq!(select(&cluster.reader).await.expect("answers"), (all.clone(), vec![]));
    }
    cluster.take_down(1).await;
    for _ in 0..5 {
        assert_eq!(select(&cluster.reader).await.expect("answers"), (all.clone(), vec![]));
        assert_eq!(counted(&cluster.reader).await, (40, vec![]), "what two have counts once");
        assert_eq!(counted_newest(&cluster.reader).await, Some((40, vec![])), "by its newest sample too");
    }
    cluster.take_down(2).await;
    assert_eq!(counted(&cluster.reader).await.0, only(&all, |p| p != 2).len() as u64);
    let (number, mut of_count) = counted_newest(&cluster.reader).await.expect("told");
    let (got, mut warnings) = select(&cluster.reader).await.expect("answers");
    assert_eq!(got, only(&all, |p| p != 2), "both copies of partition 2 are gone");
    warnings.sort();
    let mut expect: Vec<String> = cluster.urls[1..]
        .iter()
        .map(|url| format!("storage node {url} is unreachable: partition 2 is missing from this answer"))
        .collect();
    expect.sort();
    of_count.sort();
    assert_eq!((number, of_count), (got.len() as u64, expect.clone()));
    assert_eq!(warnings, expect);
}

/// Serves a node as one of a version that knows no counts.
async fn serve_older(node: Node) -> (String, tokio::task::JoinHandle<()>) {
    let router = storage::serve::router(node, None, &prometheus::Registry::new()).expect("serves");
    let refuse = async |request: axum::extract::Request, next: axum::middleware::Next| {
        if request.uri().path().ends_with("/count") {
            return axum::response::IntoResponse::into_response(axum::http::StatusCode::NOT_FOUND);
        }
        next.run(request).await
    };
    let router = router.layer(axum::middleware::from_fn(refuse));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (url, tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_knows_no_counts_is_read_instead_and_not_taken_for_one_that_is_down() {
    let bed = Bed::new().await;
    let all = fill(&bed, 40, 3).await;
    let first = bed.storage(Replica { number: 0, of: 2, copies: 1 }).await.expect("starts");
    let second = bed.storage(Replica { number: 1, of: 2, copies: 1 }).await.expect("starts");
    let (new, (old, serving)) = (serve(first.node.clone(), None).await, serve_older(second.node.clone()).await);
    let reader = Arc::new(fan_out(&[new.url.clone(), old.clone()], 1));
    assert_eq!(select(&reader).await.expect("answers"), (all, vec![]));
    assert_eq!(counted_newest(&reader).await, None);
    serving.abort();
    let alone = bed.storage_in("alone", Replica::ALONE).await.expect("starts");
    let (old, serving) = serve_older(alone.node.clone()).await;
    let reader = Arc::new(remote(&old, None));
    assert_eq!(select(&reader).await.expect("answers").0.len(), 40);
    assert_eq!(counted_newest(&reader).await, None);
    serving.abort();
}

/// Asks what changed since never, and tells whether that is known.
async fn knows_changes<R: Reader + ?Sized>(reader: &Arc<R>, cancel: Cancel) -> bool {
    let request = ChangesRequest { since: None, names: None, range: TimeRange::ALL, cancel };
    blocking(reader, move |reader| reader.changes(&request).mark.is_some()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_tell_what_changed_is_not_asked_again_for_a_while() {
    for of_several in [false, true] {
        let fake = Arc::new(Fake::new(&[(1, 1.0)]));
        let asked = || fake.asked_for_changes.load(Ordering::SeqCst);
        let memory = Budget::default();
        let node = Node { reader: fake.clone(), replica: Replica::ALONE, partitions: PARTITIONS, memory };
        let served = serve(node, None).await;
        // One that waits for as long as it takes, and one that does not.
        let reader: Arc<dyn Reader> = match of_several {
            true => Arc::new(fan_out(std::slice::from_ref(&served.url), 1)),
            false => Arc::new(remote(&served.url, None)),
        };
        let (timeout, registry) = (Duration::from_secs(1), Registry::new());
        let hasty: Arc<dyn Reader> = match of_several {
            true => {
                let urls = std::slice::from_ref(&served.url);
                Arc::new(FanOut::with_changes_timeout(urls, 1, None, timeout, &registry).expect("addresses"))
            }
            false => Arc::new(Remote::with_changes_timeout(&served.url, None, timeout, &registry).expect("an address")),
        };
        assert!(knows_changes(&reader, Cancel::default()).await);
        let cancelled = Cancel::default();
        cancelled.cancel();
        assert!(!knows_changes(&reader, cancelled).await);
        assert_eq!(asked(), 1, "who is cancelled does not wait for it");
        let asked = async {
            // Connects, which may take longer than it has; then it does not ask for a while.
            while !knows_changes(&hasty, Cancel::default()).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("it asks");
        fake.holds.store(true, Ordering::SeqCst);
        assert!(!knows_changes(&hasty, Cancel::default()).await);
        fake.holds.store(false, Ordering::SeqCst);
        assert!(!knows_changes(&hasty, Cancel::default()).await, "it was not asked, or it would have answered");
        assert!(knows_changes(&reader, Cancel::default()).await);
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_in_an_answer_is_an_error_and_never_a_short_answer() {
    let bed = Bed::new().await;
    let all = fill(&bed, 20, 5000).await;
    let storage = bed.storage(Replica::ALONE).await.expect("starts");
    let served = serve(storage.node.clone(), None).await;
    // Each place at which it is cut is before the end: the answer has some hundred thousand bytes.
    for bytes in [0, 1, 60, 5_000, 100_000, 300_000] {
        let proxy = Proxy::start(&served.url, usize::MAX, bytes).await;
        let reader = Arc::new(remote(&proxy.url, None));
        let error = blocking(&reader, |reader| reader.select(&everything()).expect_err("it was cut")).await;
        assert_eq!(error.kind, Kind::Unavailable, "{error}");
        assert!(error.message.starts_with(&format!("storage node {} is unreachable: ", proxy.url)), "{error}");
        assert!(proxy.accepted.load(Ordering::SeqCst) >= 2, "it was asked once more");
    }
    let whole = Proxy::start(&served.url, 0, 0).await;
    assert_eq!(select(&Arc::new(remote(&whole.url, None))).await.expect("answers"), (all, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_much_memory_of_the_node_or_of_who_asks_is_an_error_that_says_so() {
    let bed = Bed::new().await;
    fill(&bed, 20, 5000).await;
    let storage = bed.storage(Replica::ALONE).await.expect("starts");
    let (reads, queries) = (Budget::new("reads", 1000), Budget::new("queries", 1000));
    let small = serve(Node { memory: reads.clone(), ..storage.node.clone() }, None).await;
    let reader = Arc::new(remote(&small.url, None));
    let error = blocking(&reader, |reader| reader.select(&everything()).expect_err("too much")).await;
    assert!(error.message.contains("too little memory for reads"), "{error}");
    assert_eq!((error.kind, reads.held()), (Kind::Invalid, 0));

    let served = serve(storage.node.clone(), None).await;
    let reader = Arc::new(remote(&served.url, None));
    let cancel = Cancel::with(queries.claim());
    let request = SelectRequest { cancel, ..everything() };
    let error = blocking(&reader, move |reader| reader.select(&request).expect_err("too much")).await;
    assert!(error.message.contains("too little memory for queries"), "{error}");
    assert_eq!((error.kind, queries.held()), (Kind::Invalid, 0));

    let queries = Budget::new("queries", 10 << 20);
    let request = SelectRequest { cancel: Cancel::with(queries.claim()), ..everything() };
    let asked = request.clone();
    blocking(&reader, move |reader| reader.select(&asked).expect("fits")).await;
    // Some byte a sample, until the query is done with it.
    assert!(queries.held() > 20 * 5000 / 2, "{}", queries.held());
    drop(request);
    assert_eq!(queries.held(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_once_is_not_noticed() {
    let bed = Bed::new().await;
    let all = fill(&bed, 20, 5000).await;
    let storage = bed.storage(Replica::ALONE).await.expect("starts");
    let served = serve(storage.node.clone(), None).await;
    let proxy = Proxy::start(&served.url, 1, 100_000).await;
    let reader = Arc::new(remote(&proxy.url, None));
    let got = blocking(&reader, |reader| read(reader.select(&everything()).expect("answers"), TimeRange::ALL)).await;
    assert_eq!(got.expect("reads"), all);
    assert_eq!(proxy.accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_breaks_off_is_as_good_as_one_that_is_down() {
    let bed = Bed::new().await;
    let all = fill(&bed, 40, 5000).await;
    for (copies, expect) in [(1, only(&all, |p| p != 1)), (2, all.clone())] {
        let (mut urls, mut served, mut storages) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..3 {
            let replica = Replica { number, of: 3, copies };
            let storage = bed.storage_in(&format!("{number}-{copies}"), replica).await.expect("starts");
            let serving = serve(storage.node.clone(), None).await;
            urls.push(serving.url.clone());
            served.push(serving);
            storages.push(storage);
        }
        let proxy = Proxy::start(&urls[1], usize::MAX, 20_000).await;
        urls[1] = proxy.url.clone();
        let reader = Arc::new(fan_out(&urls, copies));
        let (got, warnings) = select(&reader).await.expect("answers");
        assert!(got == expect, "{} series with {copies} copies", got.len());
        let warning = format!("storage node {} is unreachable: partition 1 is missing from this answer", proxy.url);
        assert_eq!(warnings, if copies == 1 { vec![warning] } else { vec![] });
    }
}

fn node(fake: &Arc<Fake>, number: u32, of: u32, copies: u32) -> Node {
    Node {
        reader: fake.clone(),
        replica: Replica { number, of, copies },
        partitions: PARTITIONS,
        memory: Default::default(),
    }
}

fn samples(of: &[(i64, f64)]) -> Samples {
    Samples::from([(series(1), of.iter().map(|(t, v)| (*t, v.to_bits())).collect())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_behind_does_not_count_more_than_one_that_caught_up_and_is_told_of_when_it_is_alone() {
    let behind = Arc::new(Fake::new(&[(1, 1.0), (2, 2.0)]));
    behind.stuck.store(true, Ordering::SeqCst);
    let whole = Arc::new(Fake::new(&[(2, 20.0), (3, 30.0)]));
    let (first, second) = (serve(node(&behind, 0, 2, 2), None).await, serve(node(&whole, 1, 2, 2), None).await);
    let reader = Arc::new(fan_out(&[first.url.clone(), second.url.clone()], 2));
    reader.caught_up(Duration::from_secs(30)).await.expect("one copy of each partition is enough");
    let answer = |reader: &dyn Reader| {
        let set = reader.select(&everything()).expect("answers");
        (set.warnings.clone(), read(set, TimeRange::ALL).expect("reads"))
    };
    let (warnings, got) = blocking(&reader, move |reader| answer(reader)).await;
    assert_eq!(warnings, [""; 0]);
    let (alone, both) = (samples(&[(2, 20.0), (3, 30.0)]), samples(&[(1, 1.0), (2, 20.0), (3, 30.0)]));
    assert!(got == alone || got == both, "{got:?}");
    second.stop().await;
    let (warnings, got) = blocking(&reader, move |reader| answer(reader)).await;
    assert_eq!(got, samples(&[(1, 1.0), (2, 2.0)]));
    let url = &first.url;
    let expect = format!(
        "storage node {url} may be behind: the newest samples of partitions 0, 1, 2, 3 are perhaps missing from this answer"
    );
    assert_eq!(warnings, [expect]);
    let error = reader.caught_up(Duration::from_millis(50)).await.expect_err("it is there and behind");
    assert_eq!((error.kind, error.message), (Kind::Unavailable, format!("storage node {url}: behind")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_the_middle_is_the_nodes_error() {
    let fake = Arc::new(Fake::new(&[(1, 1.0)]));
    fake.corrupt.store(true, Ordering::SeqCst);
    let served = serve(node(&fake, 0, 1, 1), None).await;
    let reader = Arc::new(remote(&served.url, None));
    let error = blocking(&reader, |reader| reader.select(&everything()).expect_err("corrupt")).await;
    assert_eq!((error.kind, error.message), (Kind::Corrupt, format!("storage node {}: block 7 is bad", served.url)));
    assert_eq!(served.metric("weir_storage_failed_reads_total"), 1.0);
    // With another copy it is not missed.
    let whole = Arc::new(Fake::new(&[(1, 1.0)]));
    let (first, second) = (serve(node(&fake, 0, 2, 2), None).await, serve(node(&whole, 1, 2, 2), None).await);
    let reader = Arc::new(fan_out(&[first.url.clone(), second.url.clone()], 2));
    assert_eq!(select(&reader).await.expect("answers"), (samples(&[(1, 1.0)]), vec![]));
    second.stop().await;
    let error = blocking(&reader, |reader| reader.select(&everything()).expect_err("corrupt")).await;
    assert_eq!(error.kind, Kind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_early_without_a_fault_of_the_connection_is_no_answer() {
    // The first of the series are sent before the last one is read: a round has 64 for each core.
    let series = 4 * 64 * std::thread::available_parallelism().expect("is told").get();
    let fake = Arc::new(Fake::large(series));
    let served = serve(node(&fake, 0, 1, 1), None).await;
    let reader = Arc::new(remote(&served.url, None));
    let number = blocking(&reader, |reader| reader.select(&everything()).expect("answers").series.len()).await;
    assert_eq!(number, series);
    fake.panics.store(true, Ordering::SeqCst);
    let error = blocking(&reader, |reader| reader.select(&everything()).expect_err("it ends early")).await;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.ends_with("the answer broke off: it has no end"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_is_given_up_when_it_is_cancelled() {
    let fake = Arc::new(Fake::new(&[(1, 1.0)]));
    fake.holds.store(true, Ordering::SeqCst);
    let served = serve(node(&fake, 0, 1, 1), None).await;
    let reader = Arc::new(remote(&served.url, None));
    let request = everything();
    let cancel = request.cancel.clone();
    let asked = tokio::spawn(async move { blocking(&reader, move |reader| reader.select(&request)).await });
    fake.until_held(1).await;
    cancel.cancel();
    let error = asked.await.expect("no panic").expect_err("cancelled");
    assert_eq!((error.kind, error.message.as_str()), (Kind::Unavailable, "cancelled"));
    fake.until_held(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_right_token_or_number_is_refused() {
    let fake = Arc::new(Fake::new(&[(1, 1.0)]));
    let token = |text| Some(Token::fixed(text).expect("a token"));
    let served = serve(node(&fake, 0, 1, 1), token("right")).await;
    let ask = async |with| {
        let reader = Arc::new(remote(&served.url, with));
        blocking(&reader, |reader| reader.select(&everything()).map(|set| set.series.len())).await
    };
    assert_eq!(ask(token("right")).await.expect("answers"), 1);
    for wrong in [token("wrong"), None] {
        let error = ask(wrong).await.expect_err("refused");
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains("is unreachable: it answers 401 Unauthorized: "), "{error}");
    }
    let (first, second) = (serve(node(&fake, 0, 2, 1), None).await, serve(node(&fake, 1, 2, 1), None).await);
    let swapped = Arc::new(fan_out(&[second.url.clone(), first.url.clone()], 1));
    let error = blocking(&swapped, |reader| reader.select(&everything()).expect_err("refused")).await;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(
        error.message.contains("with 1 copy, and by --storage-urls and --storage-copies it is replica "),
        "{error}"
    );
}

#[tokio::test]
async fn wrong_addresses_are_refused_in_one_message() {
    crate::support::install_crypto();
    let urls = ["https://a:1", "b:2", "http://c:3/path", "http://d:4"].map(String::from).to_vec();
    let args = storage::reader::Args { storage_urls: urls, storage_copies: 5 };
    let error = storage::reader::connect(&args, None, &prometheus::Registry::new()).err().expect("refused").to_string();
    for part in [
        "--storage-copies 5 is not from 1 to --storage-replicas 4",
        "\"https://a:1\" is not of the form http://HOST:PORT",
        "\"b:2\" is not of the form",
        "\"http://c:3/path\" is not of the form",
    ] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
}
