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

/// Passes bytes on to the server that it is told of, and cuts the connection instead of passing on an answer when it is told to.
struct Proxy {
    address: SocketAddr,
    /// Connections are ended at once while there is none.
    target: tokio::sync::watch::Sender<Option<SocketAddr>>,
    cut: Arc<AtomicBool>,
    cut_now: Arc<tokio::sync::Notify>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn new() -> Proxy {
        let (target, targets) = tokio::sync::watch::channel(None::<SocketAddr>);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let cut = Arc::new(AtomicBool::new(false));
        let mut task = JoinSet::new();
        let cut_now = Arc::new(tokio::sync::Notify::new());
        let (cutting, ending) = (cut.clone(), cut_now.clone());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((inner, _)) = listener.accept().await {
                let target = *targets.borrow();
                if let Some(target) = target
                    && let Ok(outer) = TcpStream::connect(target).await
                {
                    let (passed, ending) = (pass(inner, outer, cutting.clone()), ending.clone());
                    connections.spawn(async move {
                        tokio::select! { () = passed => {}, () = ending.notified() => {} }
                    });
                }
            }
        });
        Proxy { address, target, cut, cut_now, _task: task }
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
    let proxy = Proxy::new().await;
    let mut args = args(dir);
    args.kafka_advertise = Some(("127.0.0.1".to_owned(), proxy.address.port()));
    let rig = Rig::with(args).await;
    proxy.target.send_replace(Some(rig.address));
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
    let proxy = Proxy::new().await;
    let mut args = args(dir.path());
    args.kafka_advertise = Some(("127.0.0.1".to_owned(), proxy.address.port()));
    let rig = Rig::with(args.clone()).await;
    proxy.target.send_replace(Some(rig.address));
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
        proxy.target.send_replace(Some(rig.address));
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
async fn another_log_at_the_same_address_is_not_read_and_is_told_nothing() {
    let (dir, other) = (tempfile::tempdir().expect("directory"), tempfile::tempdir().expect("directory"));
    let (rig, proxy, client, _) = behind_proxy(dir.path()).await;
    assert_eq!(client.id(), rig.started.log.id());
    for payload in ["a", "b", "c"] {
        client.append(0, Bytes::from_static(payload.as_bytes()), 1).await.expect("appended");
    }
    assert_eq!(payloads(&client, 0).await.len(), 3);
    client.commit("storage", 0, 2).await.expect("committed");
    rig.stop().await;
    let mut args = args(other.path());
    args.kafka_advertise = Some(("127.0.0.1".to_owned(), proxy.address.port()));
    let rig = Rig::with(args).await;
    for payload in 0..10u8 {
        rig.started.log.append(0, Bytes::from(vec![payload]), 1).await.expect("appended");
    }
    proxy.target.send_replace(Some(rig.address));
    // It has records at the position: only its number tells that they are others.
    for _ in 0..2 {
        let error = client.fetch(0, 3, 1 << 16, Duration::ZERO).await.expect_err("another log");
        assert!(matches!(&error, Error::Corrupt { reason, .. } if reason.contains("another log")), "{error}");
        assert!(client.bounds(0).await.is_err() && client.commit("storage", 0, 3).await.is_err());
        assert!(client.committed("storage", 0).await.is_err());
    }
    assert_eq!(rig.started.log.committed("storage", 0).await.expect("told"), None);
    let anew = Client::connect(config(proxy.address, None), &Registry::new()).await.expect("connects");
    assert_eq!((anew.id(), payloads(&anew, 0).await.len()), (rig.started.log.id(), 10));
    rig.stop().await;
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
    let proxy = Proxy::new().await;
    let error = Client::connect(config(proxy.address, None), &Registry::new()).await.err().expect("refused");
    assert_eq!(error.kind(), model::Kind::Unavailable);
    assert!(error.to_string().contains(&proxy.address.to_string()), "{error}");
}

#[tokio::test]
async fn a_client_waits_for_a_log_that_starts_later() {
    let proxy = Proxy::new().await;
    let config = Config { patience: Duration::from_secs(30), ..config(proxy.address, None) };
    let registry = Registry::new();
    let mut connecting = Box::pin(Client::connect(config, &registry));
    // It has been refused by then, since nothing is behind the proxy.
    let dir = tempfile::tempdir().expect("directory");
    let rig = tokio::select! {
        rig = Rig::new(dir.path()) => rig,
        connected = &mut connecting => panic!("there is no log: {:?}", connected.err()),
    };
    proxy.target.send_replace(Some(rig.address));
    assert_eq!(connecting.await.expect("connects").partitions(), 2);
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

/// A served log whose writer a test can keep from its work.
struct Held {
    log: Arc<crate::local::LocalLog>,
    registry: Registry,
    address: SocketAddr,
    trigger: runtime::ShutdownTrigger,
    served: tokio::task::JoinHandle<()>,
    writers: Vec<std::thread::JoinHandle<()>>,
}

impl Held {
    async fn new(dir: &std::path::Path, advertised: Option<SocketAddr>) -> Held {
        let (registry, mut args) = (Registry::new(), args(dir));
        args.queue_partitions = 1;
        let metrics = crate::metrics::Metrics::new(&registry).expect("registers");
        let (log, writers) = crate::local::LocalLog::open(&args, metrics).expect("opens");
        let log = Arc::new(log);
        let (trigger, shutdown) = runtime::Shutdown::new();
        let (listener, address) = runtime::listener::bind("127.0.0.1:0").await.expect("bound");
        let advertised = advertised.map(|address| (address.ip().to_string(), address.port()));
        let server = crate::kafka::Server::new(log.clone(), None, advertised, &registry).expect("registers");
        let served = tokio::spawn(server.serve(listener, shutdown));
        Held { log, registry, address, trigger, served, writers }
    }

    /// Has a thread keep the writer from its work, until it is told to let go or what is given is dropped.
    async fn hold(&self) -> (std::sync::mpsc::SyncSender<()>, std::thread::JoinHandle<()>) {
        let (held, holding) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
        let log = self.log.clone();
        let holder = std::thread::spawn(move || {
            log.partitions[0].hold_writer(|| {
                held.send(()).expect("waited for");
                let _ = released.recv();
            });
        });
        holding.await.expect("held");
        (release, holder)
    }

    async fn stop(self) {
        self.trigger.ask();
        self.served.await.expect("ends");
        self.log.close();
        self.writers.into_iter().for_each(|w| w.join().expect("ends"));
    }
}

#[tokio::test]
async fn a_log_that_is_full_refuses_and_takes_the_next_once_there_is_room() {
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let held = Held::new(dir.path(), None).await;
    let client = Client::connect(config(held.address, None), &Registry::new()).await.expect("connects");
    assert_eq!(client.append(0, Bytes::from_static(b"first"), 1).await.expect("appended"), 0);
    let (release, holder) = held.hold().await;
    let payload = Bytes::from(vec![0; crate::RECORD_BYTES_MAX]);
    let mut waiting: Vec<_> = (0..8).map(|_| held.log.append(0, payload.clone(), 1)).collect();
    assert!(waiting.iter_mut().all(|append| append.now_or_never().is_none()));
    let refused = client.append(0, Bytes::from_static(b"second"), 1).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    drop(release);
    assert!(futures_util::future::join_all(waiting).await.iter().all(Result::is_ok));
    assert_eq!(client.append(0, Bytes::from_static(b"third"), 1).await.expect("appended"), 9);
    holder.join().expect("ends");
    held.stop().await;
}

#[tokio::test]
async fn a_full_log_is_no_answer_while_an_earlier_attempt_may_be_stored() {
    use futures_util::FutureExt as _;
    let dir = tempfile::tempdir().expect("directory");
    let proxy = Proxy::new().await;
    let held = Held::new(dir.path(), Some(proxy.address)).await;
    proxy.target.send_replace(Some(held.address));
    let client = Client::connect(config(proxy.address, None), &Registry::new()).await.expect("connects");
    assert_eq!(client.append(0, Bytes::from_static(b"first"), 1).await.expect("appended"), 0);
    let (release, holder) = held.hold().await;
    let of = |name, label| metric(&held.registry, name, label);
    let append = client.append(0, Bytes::from_static(b"second"), 1);
    let meanwhile = async {
        while of("weir_queue_kafka_requests_total", "Produce") < 2.0 {
            tokio::task::yield_now().await;
        }
        // It waits for the writer. Now there is no room for another one, and its connection is cut.
        let mut waiting = Vec::new();
        while of("weir_queue_rejected_appends_total", "waiting") < 1.0 {
            let mut other = held.log.append(0, Bytes::from_static(b"x"), 1);
            if (&mut other).now_or_never().is_none() {
                waiting.push(other);
            }
        }
        proxy.cut_now.notify_waiters();
        while of("weir_queue_rejected_appends_total", "waiting") < 2.0 {
            tokio::task::yield_now().await;
        }
        drop(release);
        assert!(futures_util::future::join_all(waiting).await.iter().all(Result::is_ok));
    };
    let (offset, ()) = tokio::join!(append, meanwhile);
    assert_eq!(offset.expect("stored by the first attempt"), 1);
    assert_eq!(payloads(&client, 0).await.iter().filter(|payload| *payload == "second").count(), 1);
    holder.join().expect("ends");
    held.stop().await;
}

#[tokio::test]
async fn a_client_whose_number_is_taken_goes_on_with_a_new_one() {
    use crate::batch::Producer;
    let dir = tempfile::tempdir().expect("directory");
    let rig = Rig::new(dir.path()).await;
    let client = client(&rig).await;
    client.append(0, Bytes::from_static(b"first"), 1).await.expect("appended");
    let mut connection = rig.connect().await;
    // The client is the only one that got an id, which is the one before the next.
    let id = crate::kafka::testing::producer_id(&mut connection).await - 1;
    let taken = crate::kafka::testing::batch(Some(Producer { id, epoch: 0, sequence: 1 }), &[(1, b"a"), (1, b"b")]);
    assert_eq!(crate::kafka::testing::produce(&mut connection, 0, taken).await.base_offset, 1);
    assert_eq!(client.append(0, Bytes::from_static(b"second"), 1).await.expect("appended"), 3);
    assert_eq!(payloads(&client, 0).await, ["first", "a", "b", "second"].map(Bytes::from));
}

#[tokio::test]
async fn a_client_follows_a_log_that_moves() {
    let dir = tempfile::tempdir().expect("directory");
    // Where it is asked first, and where it says that it is.
    let (proxy, before) = (Proxy::new().await, Proxy::new().await);
    let mut args = args(dir.path());
    args.kafka_advertise = Some((before.address.ip().to_string(), before.address.port()));
    let rig = Rig::with(args.clone()).await;
    proxy.target.send_replace(Some(rig.address));
    before.target.send_replace(Some(rig.address));
    let client = Client::connect(config(proxy.address, None), &Registry::new()).await.expect("connects");
    client.append(0, Bytes::from_static(b"before"), 1).await.expect("appended");
    assert_eq!(payloads(&client, 0).await.len(), 1);
    rig.stop().await;
    // At the address before is somebody else now, who hangs up.
    before.target.send_replace(None);
    args.kafka_advertise = None;
    let rig = Rig::with(args).await;
    proxy.target.send_replace(Some(rig.address));
    assert_eq!(client.append(0, Bytes::from_static(b"after"), 1).await.expect("appended"), 1);
    let read = async {
        loop {
            // The first that fails makes the client ask where the log is.
            match client.bounds(0).await {
                Ok(bounds) => break bounds,
                Err(error) => assert_eq!(error.kind(), model::Kind::Unavailable),
            }
        }
    };
    assert_eq!(read.await, Bounds { start: 0, end: 2 });
}
