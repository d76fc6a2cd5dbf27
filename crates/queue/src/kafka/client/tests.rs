use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::kafka::testing::{Rig, args, metric};

fn config(address: impl ToString, token: Option<&str>) -> Config {
    let token = token.map(|token| Token::fixed(token).expect("valid"));
    Config { address: address.to_string(), token, patience: Duration::ZERO }
}

async fn client(rig: &Rig) -> Client {
    Client::connect(config(rig.address, None), &Registry::new()).await.expect("connects")
}

async fn payloads(log: &dyn Log, partition: u32) -> Vec<Bytes> {
    let Bounds { start: mut next, end } = log.bounds(partition).await.expect("bounds");
    let mut out = Vec::new();
    while next < end {
        let records = log.fetch(partition, next, 1 << 16, Duration::ZERO).await.expect("read");
        next = records.last().expect("progress").offset + 1;
        out.extend(records.into_iter().map(|r| r.payload));
    }
    out
}

#[tokio::test]
async fn log_over_the_network_conforms() {
    let mut kept = Vec::new();
    let dirs: Vec<_> = (0..crate::conformance::PARTS).map(|_| tempfile::tempdir().expect("directory")).collect();
    let mut left = dirs.iter();
    crate::conformance::run(|| {
        let dir = left.next().expect("one directory a part").path().to_owned();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        kept.push(receiver);
        async move {
            let rig = Rig::new(&dir).await;
            let client: Arc<dyn Log> = Arc::new(client(&rig).await);
            let _ = sender.send(rig);
            client
        }
    })
    .await;
    assert_eq!(kept.len(), crate::conformance::PARTS);
}

/// Passes bytes on, and cuts the connection instead of passing on an answer while it is told to.
struct Proxy {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn new(target: impl Fn() -> SocketAddr + Send + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let cut = Arc::new(AtomicBool::new(false));
        let mut task = JoinSet::new();
        let cutting = cut.clone();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((inner, _)) = listener.accept().await {
                if let Ok(outer) = TcpStream::connect(target()).await {
                    connections.spawn(pass(inner, outer, cutting.clone()));
                }
            }
        });
        Proxy { address, cut, _task: task }
    }

    /// Cuts the connection that gets the next answer, once.
    fn cut_the_next_answer(&self) {
        self.cut.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

async fn pass(client: TcpStream, server: TcpStream, cut: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let there = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            // The answer is there, so the request was carried out.
            if cut.swap(false, std::sync::atomic::Ordering::SeqCst) || to_client.write_all(&buffer[..n]).await.is_err()
            {
                break;
            }
        }
    };
    tokio::select! { _ = there => {}, () = back => {} }
}

/// A served log behind a proxy, and a client that only knows the proxy.
async fn behind_proxy(dir: &std::path::Path) -> (Rig, Proxy, Client, Registry) {
    let (sender, target) = tokio::sync::watch::channel(None);
    let proxy = Proxy::new(move || target.borrow().expect("the server runs")).await;
    let mut args = args(dir);
    args.kafka_advertise = Some(("127.0.0.1".to_owned(), proxy.address.port()));
    let rig = Rig::with(args).await;
    sender.send_replace(Some(rig.address));
    let registry = Registry::new();
    let client = Client::connect(config(proxy.address, None), &registry).await.expect("connects");
    (rig, proxy, client, registry)
}

#[tokio::test]
async fn a_produce_whose_answer_was_lost_is_stored_once() {
    let dir = tempfile::tempdir().expect("directory");
    let (rig, proxy, client, registry) = behind_proxy(dir.path()).await;
    assert_eq!(client.append(0, Bytes::from_static(b"first"), 1).await.expect("appended"), 0);
    proxy.cut_the_next_answer();
    assert_eq!(client.append(0, Bytes::from_static(b"second"), 1).await.expect("appended"), 1);
    assert_eq!(client.append(0, Bytes::from_static(b"third"), 1).await.expect("appended"), 2);
    assert_eq!(payloads(&client, 0).await, ["first", "second", "third"].map(Bytes::from));
    assert_eq!(metric(&registry, "weir_queue_client_retries_total", ""), 1.0);
    assert_eq!(rig.metric("weir_queue_duplicate_batches_total", ""), 1.0);
}

#[tokio::test]
async fn a_fetch_whose_answer_was_lost_is_made_again() {
    let dir = tempfile::tempdir().expect("directory");
    let (_rig, proxy, client, _) = behind_proxy(dir.path()).await;
    client.append(0, Bytes::from_static(b"a"), 1).await.expect("appended");
    let read = |log| payloads(log, 0);
    assert_eq!(read(&client).await, [Bytes::from("a")]);
    proxy.cut_the_next_answer();
    assert_eq!(read(&client).await, [Bytes::from("a")]);
}

#[tokio::test]
async fn a_restart_of_the_server_loses_nothing_and_stores_nothing_twice() {
    let dir = tempfile::tempdir().expect("directory");
    let (sender, target) = tokio::sync::watch::channel(None);
    let proxy = Proxy::new(move || target.borrow().expect("the server runs")).await;
    let mut args = args(dir.path());
    args.kafka_advertise = Some(("127.0.0.1".to_owned(), proxy.address.port()));
    let rig = Rig::with(args.clone()).await;
    sender.send_replace(Some(rig.address));
    let client = Client::connect(config(proxy.address, None), &Registry::new()).await.expect("connects");
    client.append(0, Bytes::from_static(b"before"), 1).await.expect("appended");
    client.commit("storage", 0, 1).await.expect("committed");
    // The answer is lost, and the client tries in vain until the log is there again.
    proxy.cut_the_next_answer();
    let append = client.append(0, Bytes::from_static(b"in between"), 1);
    let restart = async {
        let stored = rig.started.log.clone();
        let mut next = stored.fetch(0, 1, 1, Duration::from_secs(30)).await.expect("read");
        assert_eq!(next.pop().expect("stored").payload, "in between");
        drop(stored);
        rig.stop().await;
        let rig = Rig::with(args).await;
        sender.send_replace(Some(rig.address));
        rig
    };
    let (offset, rig) = tokio::join!(append, restart);
    assert_eq!(offset.expect("appended"), 1);
    assert_eq!(client.append(0, Bytes::from_static(b"after"), 1).await.expect("appended"), 2);
    assert_eq!(payloads(&client, 0).await, ["before", "in between", "after"].map(Bytes::from));
    assert_eq!(client.committed("storage", 0).await.expect("told"), Some(1));
    drop(rig);
}

#[tokio::test]
async fn only_a_client_with_the_token_is_let_in() {
    let dir = tempfile::tempdir().expect("directory");
    let mut args = args(dir.path());
    args.token = Some(Token::fixed("right").expect("valid"));
    let rig = Rig::with(args).await;
    let connect = async |token| Client::connect(config(rig.address, token), &Registry::new()).await;
    let client = connect(Some("right")).await.expect("let in");
    client.append(0, Bytes::from_static(b"a"), 1).await.expect("appended");
    let refused = connect(Some("wrong")).await.err().expect("refused").to_string();
    assert!(refused.contains("wrong user or token"), "{refused}");
    assert!(matches!(connect(None).await.err(), Some(Error::Remote(_))));
    assert_eq!(rig.metric("weir_queue_kafka_closed_connections_total", "denied"), 1.0);
}

#[tokio::test]
async fn a_token_that_the_server_does_not_ask_for_is_said_to_be_one_too_many() {
    let dir = tempfile::tempdir().expect("directory");
    let rig = Rig::new(dir.path()).await;
    let refused = Client::connect(config(rig.address, Some("any")), &Registry::new()).await.err().expect("refused");
    assert!(refused.to_string().contains("refuses SASL PLAIN"), "{refused}");
}

#[tokio::test]
async fn a_log_that_is_not_there_is_an_error_that_names_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let error = Client::connect(config(address, None), &Registry::new()).await.err().expect("refused");
    assert_eq!(error.kind(), model::Kind::Unavailable);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_client_waits_for_a_log_that_starts_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("bound");
    // Accepted by nobody, then by the log.
    drop(listener);
    let dir = tempfile::tempdir().expect("directory");
    let config = Config { patience: Duration::from_secs(30), ..config(address, None) };
    let registry = Registry::new();
    let mut args = args(dir.path());
    args.kafka = Some(address.to_string());
    let (client, _rig) = tokio::join!(Client::connect(config, &registry), Rig::with(args));
    assert_eq!(client.expect("connects").partitions(), 2);
}

#[tokio::test]
async fn appends_that_wait_for_the_server_are_bounded_in_bytes() {
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let rig = Rig::new(dir.path()).await;
    let client = client(&rig).await;
    let payload = Bytes::from(vec![0; crate::RECORD_BYTES_MAX]);
    let mut waiting = Vec::new();
    // The runtime of this test has one thread, so that nothing is sent before it waits.
    let refused = loop {
        let mut append = client.append(0, payload.clone(), 0);
        match (&mut append).now_or_never() {
            Some(result) => break result,
            None => waiting.push(append),
        }
    };
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    assert_eq!(waiting.len(), 8, "64 MiB in records of 8");
    let mut offsets: Vec<i64> =
        futures_util::future::join_all(waiting).await.into_iter().map(|offset| offset.expect("appended")).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..8).collect::<Vec<_>>());
}
