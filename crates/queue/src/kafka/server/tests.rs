use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ResponseHeader,
    SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{Decodable as _, StrBytes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::batch::Producer;
use crate::kafka::client::connection::{Connection, REQUEST};
use crate::kafka::testing::{Rig, args, batch, produce, produce_request, producer_id};

/// Long enough that only a server that does not answer exceeds it.
const PATIENCE: Duration = Duration::from_secs(180);

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

async fn rig() -> (tempfile::TempDir, Rig) {
    let dir = tempfile::tempdir().expect("directory");
    let rig = Rig::new(dir.path()).await;
    (dir, rig)
}

/// Sends a frame as it is, and reads what comes back: nothing where the server ends the connection.
async fn exchange(stream: &mut TcpStream, frame: &[u8]) -> Bytes {
    stream.write_all(&(frame.len() as i32).to_be_bytes()).await.expect("sent");
    stream.write_all(frame).await.expect("sent");
    let Ok(length) = stream.read_i32().await else { return Bytes::new() };
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.expect("answered");
    Bytes::from(answer)
}

fn fetch_request(partitions: &[(i32, i64)], wait: Duration, min_bytes: i32, bytes_max: i32) -> FetchRequest {
    let partitions = partitions.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(bytes_max)
    });
    let topic = FetchTopic::default().with_topic(text("weir").into()).with_partitions(partitions.collect());
    FetchRequest::default()
        .with_max_wait_ms(wait.as_millis() as i32)
        .with_min_bytes(min_bytes)
        .with_max_bytes(bytes_max)
        .with_topics(vec![topic])
}

async fn fetch(connection: &mut Connection, request: FetchRequest) -> Vec<PartitionData> {
    let answer = connection.call(12, &request, PATIENCE * 2).await.expect("answered");
    assert_eq!((answer.error_code, answer.session_id), (0, 0));
    answer.responses.into_iter().flat_map(|topic| topic.partitions).collect()
}

#[tokio::test]
async fn a_version_of_the_future_is_answered_by_those_there_are() {
    let (_dir, rig) = rig().await;
    let mut stream = TcpStream::connect(rig.address).await.expect("connects");
    // ApiVersions 99, correlation 7, and a body that nobody knows.
    let mut answer = exchange(&mut stream, &[0, 18, 0, 99, 0, 0, 0, 7, 1, 2, 3]).await;
    assert_eq!(ResponseHeader::decode(&mut answer, 0).expect("a header").correlation_id, 7);
    let versions = ApiVersionsResponse::decode(&mut answer, 0).expect("of the first version");
    assert_eq!((versions.error_code, versions.api_keys.len()), (35, 11));
    // The connection goes on with a version that is served.
    let mut connection = rig.connect().await;
    for version in 0..=4 {
        let versions = connection.call(version, &ApiVersionsRequest::default(), REQUEST).await.expect("answered");
        let produce = versions.api_keys.iter().find(|api| api.api_key == 0).expect("served");
        assert_eq!((versions.error_code, produce.min_version, produce.max_version), (0, 3, 9));
    }
}

#[tokio::test]
async fn the_topic_is_led_by_the_address_at_which_a_client_arrived() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    for version in 1..=12 {
        let topics = [text("weir"), text("other")].map(|n| MetadataRequestTopic::default().with_name(Some(n.into())));
        let request = MetadataRequest::default().with_topics(Some(topics.to_vec()));
        let metadata = connection.call(version, &request, REQUEST).await.expect("answered");
        let brokers: Vec<_> = metadata.brokers.iter().map(|b| (b.host.to_string(), b.port as u16)).collect();
        assert_eq!(brokers, [("127.0.0.1".to_owned(), rig.address.port())]);
        let topics: Vec<_> = metadata.topics.iter().map(|t| (t.error_code, t.partitions.len())).collect();
        assert_eq!(topics, [(0, 2), (3, 0)]);
        let all = MetadataRequest::default().with_topics(None);
        let metadata = connection.call(version, &all, REQUEST).await.expect("answered");
        assert_eq!(metadata.topics.len(), 1);
    }
}

#[tokio::test]
async fn strangers_are_refused_everything_but_the_way_in() {
    let dir = tempfile::tempdir().expect("directory");
    let mut args = args(dir.path());
    args.token = Some(Token::fixed("right").expect("valid"));
    let rig = Rig::with(args).await;
    let address = rig.address.to_string();
    let open = async || Connection::open(&address, None).await.expect("connects");
    let all = MetadataRequest::default().with_topics(None);

    let mut stranger = open().await;
    stranger.call(0, &ApiVersionsRequest::default(), REQUEST).await.expect("may ask for versions");
    stranger.call(1, &all, REQUEST).await.expect_err("the connection ends");
    assert_eq!(rig.metric("weir_queue_kafka_closed_connections_total", "unauthenticated"), 1.0);

    let mut stranger = open().await;
    let scram = SaslHandshakeRequest::default().with_mechanism(text("SCRAM-SHA-256"));
    let answer = stranger.call(1, &scram, REQUEST).await.expect("answered");
    assert_eq!((answer.error_code, answer.mechanisms), (33, vec![text("PLAIN")]));
    let given = |bytes: &'static [u8]| SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(bytes));
    let answer = stranger.call(1, &given(b"\0weir\0right"), REQUEST).await.expect("answered");
    assert_eq!(answer.error_code, 34, "no mechanism was agreed on");
    stranger.call(1, &all, REQUEST).await.expect_err("the connection ended");

    let plain = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    for (bytes, expect) in [(&b"\0weir\0wrong"[..], 58), (b"\0weir\0right", 0)] {
        let mut stranger = open().await;
        assert_eq!(stranger.call(1, &plain, REQUEST).await.expect("answered").error_code, 0);
        let answer = stranger.call(2, &given(bytes), REQUEST).await.expect("answered");
        assert_eq!(answer.error_code, expect);
        assert_eq!(stranger.call(1, &all, REQUEST).await.is_ok(), expect == 0);
    }
}

#[tokio::test]
async fn a_token_in_a_frame_of_its_own_lets_in_too() {
    let dir = tempfile::tempdir().expect("directory");
    let mut args = args(dir.path());
    args.token = Some(Token::fixed("right").expect("valid"));
    let rig = Rig::with(args).await;
    // SaslHandshake 0, correlation 7, no client name, "PLAIN"; then Metadata 1 of all topics.
    let handshake = b"\0\x11\0\0\0\0\0\x07\xff\xff\0\x05PLAIN";
    let metadata = b"\0\x03\0\x01\0\0\0\x08\xff\xff\xff\xff\xff\xff";
    for (given, let_in) in [(&b"\0weir\0right"[..], true), (b"\0weir\0wrong", false)] {
        let mut stream = TcpStream::connect(rig.address).await.expect("connects");
        let answer = exchange(&mut stream, handshake).await;
        assert_eq!(answer[..6], [0, 0, 0, 7, 0, 0], "no error");
        assert!(exchange(&mut stream, given).await.is_empty());
        if let_in {
            assert_eq!(exchange(&mut stream, metadata).await[..4], [0, 0, 0, 8]);
        } else {
            assert_eq!(rig.metric("weir_queue_kafka_closed_connections_total", "denied"), 1.0);
        }
    }
}

#[tokio::test]
async fn produced_batches_are_stored_and_served_as_they_came() {
    let (dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    rig.started.log.append(0, Bytes::from_static(b"in process"), 5).await.expect("appended");
    let producer = Producer { id: producer_id(&mut connection).await, epoch: 0, sequence: 0 };
    let sent = batch(Some(producer), &[(7, b"a"), (9, b"b")]);
    for (version, offset) in [(3, 1), (8, 3), (9, 5)] {
        let sequence = (offset - 1) as i32;
        let sent = batch(Some(Producer { sequence, ..producer }), &[(7, b"a"), (9, b"b")]);
        let answer = connection.call(version, &produce_request(0, -1, sent), REQUEST).await.expect("answered");
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, offset), "version {version}");
    }
    let read = fetch(&mut connection, fetch_request(&[(0, 0)], PATIENCE, 1, 1 << 20)).await;
    let bytes = read[0].records.clone().expect("records");
    assert_eq!(bytes, std::fs::read(dir.path().join("queue/0/00000000000000000000.log")).expect("read"));
    assert_eq!((read[0].high_watermark, read[0].log_start_offset), (7, 0));
    // Nothing was changed but the offset.
    let second = &bytes[crate::batch::header(&bytes).expect("a batch").bytes..][..sent.len()];
    assert_eq!((&second[..8], &second[8..]), (&1i64.to_be_bytes()[..], &sent[8..]));
    let records = rig.started.log.fetch(0, 1, usize::MAX, PATIENCE).await.expect("read");
    let seen: Vec<_> = records.iter().take(2).map(|r| (r.offset, r.timestamp_ms, &*r.payload)).collect();
    assert_eq!(seen, [(1, 7, &b"a"[..]), (2, 9, b"b")]);
}

#[tokio::test]
async fn batches_that_are_refused_have_the_codes_of_the_protocol() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    let good = batch(None, &[(7, b"a")]);
    let with = |at: usize, byte: u8| {
        let mut batch = good.clone();
        batch[at] = byte;
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        batch
    };
    let mut damaged = good.clone();
    damaged[65] ^= 1;
    let large = vec![0; crate::RECORD_BYTES_MAX + 1];
    let cases = [
        (2, good.clone(), 3, "no such partition"),
        (-1, good.clone(), 3, "no such partition"),
        (0, Vec::new(), 87, "no batch"),
        (0, damaged, 2, "checksum"),
        (0, with(22, 1), 76, "compressed"),
        (0, with(16, 1), 87, "old message"),
        (0, with(22, 8), 32, "time of append"),
        (0, with(22, 32), 87, "control batch"),
        (0, batch(None, &[(7, &large)]), 10, "too large"),
    ];
    for (partition, records, code, what) in cases {
        let answer = produce(&mut connection, partition, records).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{what}");
        assert!(!answer.error_message.unwrap_or_default().is_empty(), "{what}");
    }
    let answer = connection.call(9, &produce_request(0, 2, good.clone()), REQUEST).await.expect("answered");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 21, "acks");
    let transactional = produce_request(0, -1, good).with_transactional_id(Some(text("t").into()));
    let answer = connection.call(9, &transactional, REQUEST).await.expect("answered");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 53);
    let transactional = InitProducerIdRequest::default().with_transactional_id(Some(text("t").into()));
    assert_eq!(connection.call(4, &transactional, REQUEST).await.expect("answered").error_code, 53);
    assert_eq!(rig.started.log.bounds(0).await.expect("bounds").end, 0, "nothing is stored");
}

#[tokio::test]
async fn a_batch_that_is_sent_again_is_stored_once_across_restarts_and_segments() {
    let dir = tempfile::tempdir().expect("directory");
    let mut args = args(dir.path());
    // Every batch fills a segment.
    args.queue_segment_bytes = 1;
    let rig = Rig::with(args.clone()).await;
    let mut connection = rig.connect().await;
    let producer = Producer { id: producer_id(&mut connection).await, epoch: 0, sequence: 0 };
    let sent = |sequence| batch(Some(Producer { sequence, ..producer }), &[(7, b"a"), (9, b"b")]);
    let code = |answer: kafka_protocol::messages::produce_response::PartitionProduceResponse| {
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(code(produce(&mut connection, 0, sent(0)).await), (0, 0));
    assert_eq!(code(produce(&mut connection, 0, sent(2)).await), (0, 2));
    assert_eq!(code(produce(&mut connection, 0, sent(0)).await), (0, 0), "again");
    assert_eq!(code(produce(&mut connection, 0, sent(5)).await), (45, -1), "one is missing");
    rig.stop().await;
    let rig = Rig::with(args).await;
    let mut connection = rig.connect().await;
    assert!(producer_id(&mut connection).await > producer.id);
    assert_eq!(code(produce(&mut connection, 0, sent(2)).await), (0, 2), "again, after a restart");
    assert_eq!(code(produce(&mut connection, 0, sent(5)).await), (45, -1), "one is missing, after a restart");
    assert_eq!(code(produce(&mut connection, 0, sent(4)).await), (0, 4));
    let newer = batch(Some(Producer { epoch: 1, ..producer }), &[(7, b"a")]);
    assert_eq!(code(produce(&mut connection, 0, newer).await), (0, 6));
    assert_eq!(code(produce(&mut connection, 0, sent(6)).await), (47, -1), "of an epoch before");
    assert_eq!(rig.metric("weir_queue_duplicate_batches_total", ""), 1.0);
    assert_eq!(rig.metric("weir_queue_rejected_appends_total", "sequence"), 2.0);
    let read = rig.started.log.fetch(0, 4, usize::MAX, PATIENCE).await.expect("read");
    assert_eq!(read.len(), 3);
}

#[tokio::test]
async fn a_produce_without_an_answer_is_stored_and_a_refused_one_ends_the_connection() {
    let (_dir, rig) = rig().await;
    let mut stream = TcpStream::connect(rig.address).await.expect("connects");
    // Produce 3, correlation 7, no client, no transaction, acks 0; topic weir, partition 0 or 9.
    let frame = |partition: u8| {
        let mut frame =
            b"\0\0\0\x03\0\0\0\x07\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x01\0\x04weir\0\0\0\x01\0\0\0".to_vec();
        let records = batch(None, &[(7, b"a")]);
        frame.push(partition);
        frame.extend((records.len() as i32).to_be_bytes());
        frame.extend(records);
        frame
    };
    let good = frame(0);
    stream.write_all(&(good.len() as i32).to_be_bytes()).await.expect("sent");
    stream.write_all(&good).await.expect("sent");
    let stored = rig.started.log.fetch(0, 0, 1, PATIENCE).await.expect("read");
    assert_eq!(stored.len(), 1);
    assert!(exchange(&mut stream, &frame(9)).await.is_empty(), "the end");
    // It was counted before the connection was closed.
    assert_eq!(rig.metric("weir_queue_kafka_closed_connections_total", "refused"), 1.0);
}

#[tokio::test]
async fn a_fetch_waits_for_as_many_bytes_as_it_asks_for() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    let log = rig.started.log.clone();
    let request = |min_bytes| fetch_request(&[(0, 0), (1, 0)], PATIENCE, min_bytes, 1 << 20);
    let sizes = |read: Vec<PartitionData>| read.iter().map(|p| p.records.as_ref().map_or(0, Bytes::len)).collect();
    let waiting = fetch(&mut connection, request(1));
    let (read, _) = tokio::join!(waiting, log.append(1, Bytes::from_static(b"x"), 1));
    let sizes_of: Vec<usize> = sizes(read);
    assert!(sizes_of[0] == 0 && sizes_of[1] > 61, "{sizes_of:?}");
    // One batch is not enough for this one; it comes back with the second.
    let enough = sizes_of[1] as i32 + 1;
    let waiting = fetch(&mut connection, request(enough));
    let (read, _) = tokio::join!(waiting, log.append(0, Bytes::from_static(b"y"), 1));
    let sizes_of: Vec<usize> = sizes(read);
    assert!(sizes_of.iter().all(|bytes| *bytes > 61), "{sizes_of:?}");
    // The time is over before there is enough.
    let late = fetch(&mut connection, fetch_request(&[(0, 1)], Duration::from_millis(1), 1, 1 << 20)).await;
    assert_eq!((late[0].error_code, late[0].records.clone()), (0, Some(Bytes::new())));
}

#[tokio::test]
async fn a_fetch_is_bounded_in_bytes_and_always_makes_progress() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    for _ in 0..10 {
        rig.started.log.append(0, Bytes::from(vec![7; 1000]), 1).await.expect("appended");
    }
    let whole = fetch(&mut connection, fetch_request(&[(0, 0)], PATIENCE, 1, 1 << 20)).await;
    let batch = whole[0].records.as_ref().expect("records").len() / 10;
    for (bytes_max, batches) in [(0, 1), (1, 1), (2 * batch, 2), (3 * batch - 1, 2), (1 << 20, 5)] {
        let read = fetch(&mut connection, fetch_request(&[(0, 5)], PATIENCE, 1, bytes_max as i32)).await;
        assert_eq!(read[0].records.as_ref().expect("records").len(), batches * batch, "{bytes_max}");
    }
    // The second partition gets what the first leaves, and waits where that is nothing.
    rig.started.log.append(1, Bytes::from(vec![7; 1000]), 1).await.expect("appended");
    let read = fetch(&mut connection, fetch_request(&[(0, 0), (1, 0)], PATIENCE, 1, 2 * batch as i32)).await;
    let sizes: Vec<_> = read.iter().map(|p| p.records.as_ref().expect("records").len()).collect();
    assert_eq!(sizes, [2 * batch, 0]);
}

#[tokio::test]
async fn a_fetch_outside_of_the_log_is_told_its_bounds_at_once() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    rig.started.log.append(0, Bytes::from_static(b"x"), 1).await.expect("appended");
    for offset in [-1, 2] {
        let read = fetch(&mut connection, fetch_request(&[(0, offset)], PATIENCE, 1, 100)).await;
        assert_eq!((read[0].error_code, read[0].high_watermark, read[0].log_start_offset), (1, 1, 0));
    }
    let read = fetch(&mut connection, fetch_request(&[(7, 0)], PATIENCE, 1, 100)).await;
    assert_eq!(read[0].error_code, 3);
    let session = fetch_request(&[(0, 0)], PATIENCE, 1, 100).with_session_id(5).with_session_epoch(3);
    assert_eq!(connection.call(12, &session, REQUEST).await.expect("answered").error_code, 70);
}

#[tokio::test]
async fn a_fetch_that_waits_is_answered_when_the_server_stops() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    let waiting = fetch(&mut connection, fetch_request(&[(0, 0)], PATIENCE, 1, 100));
    // The fetch is on its way before the stop, which would otherwise find no request.
    let stop = async {
        while rig.metric("weir_queue_kafka_requests_total", "Fetch") == 0.0 {
            tokio::task::yield_now().await;
        }
        rig.stop().await;
    };
    let (read, ()) = tokio::time::timeout(PATIENCE / 2, async { tokio::join!(waiting, stop) }).await.expect("ends");
    assert_eq!(read[0].records, Some(Bytes::new()));
}

#[tokio::test]
async fn offsets_are_found_by_time() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    assert_eq!(produce(&mut connection, 0, batch(None, &[(10, b"a"), (30, b"b"), (20, b"c")])).await.base_offset, 0);
    assert_eq!(produce(&mut connection, 0, batch(None, &[(25, b"d")])).await.base_offset, 3);
    let mut find = async |partition: i32, timestamp: i64| {
        let wanted = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(text("weir").into()).with_partitions(vec![wanted]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]);
        let answer = connection.call(7, &request, REQUEST).await.expect("answered");
        let found = &answer.topics[0].partitions[0];
        (found.error_code, found.offset, found.timestamp)
    };
    assert_eq!(find(0, -2).await, (0, 0, -1));
    assert_eq!(find(0, -1).await, (0, 4, -1));
    assert_eq!(find(0, 0).await, (0, 0, 10));
    assert_eq!(find(0, 11).await, (0, 1, 30));
    assert_eq!(find(0, 31).await, (0, -1, -1), "none is so new");
    assert_eq!(find(0, -3).await, (0, 1, 30), "the newest");
    assert_eq!(find(1, -3).await, (0, -1, -1), "of an empty partition");
    assert_eq!(find(9, -1).await.0, 3);
    assert_eq!(find(0, -9).await.0, 42);
}

#[tokio::test]
async fn commits_are_kept_for_groups_without_members() {
    let (_dir, rig) = rig().await;
    let mut connection = rig.connect().await;
    let coordinator = FindCoordinatorRequest::default().with_key(text("g"));
    let found = connection.call(2, &coordinator, REQUEST).await.expect("answered");
    assert_eq!((found.error_code, found.port as u16), (0, rig.address.port()));
    let transactions = coordinator.with_key_type(1);
    assert_eq!(connection.call(2, &transactions, REQUEST).await.expect("answered").error_code, 42);
    let mut commit = async |group: &'static str, generation: i32, partition: i32, offset: i64| {
        let wanted = OffsetCommitRequestPartition::default().with_partition_index(partition);
        let topic = OffsetCommitRequestTopic::default().with_name(text("weir").into());
        let topic = topic.with_partitions(vec![wanted.with_committed_offset(offset)]);
        let request = OffsetCommitRequest::default().with_group_id(text(group).into());
        let request = request.with_generation_id_or_member_epoch(generation).with_topics(vec![topic]);
        let answer = connection.call(8, &request, REQUEST).await.expect("answered");
        answer.topics[0].partitions[0].error_code
    };
    assert_eq!(commit("g", -1, 0, 5).await, 0);
    assert_eq!(commit("g", 3, 0, 6).await, 22, "of a member");
    assert_eq!(commit("g", -1, 2, 6).await, 3);
    assert_eq!(commit("g", -1, 0, -1).await, 42);
    assert_eq!(commit("", -1, 0, 6).await, 24);
    assert_eq!(rig.started.log.committed("g", 0).await.expect("told"), Some(5));
    let all = OffsetFetchRequest::default().with_group_id(text("g").into()).with_topics(None);
    let answer = connection.call(7, &all, REQUEST).await.expect("answered");
    let told: Vec<_> = answer.topics[0].partitions.iter().map(|p| (p.partition_index, p.committed_offset)).collect();
    assert_eq!(told, [(0, 5)]);
}

#[tokio::test]
async fn frames_that_cannot_be_read_end_the_connection_and_are_counted() {
    let (_dir, rig) = rig().await;
    let cases: [(&[u8], &str); 5] = [
        (&[0x7f, 0xff, 0xff, 0xff], "too_large"),
        (&[0xff, 0xff, 0xff, 0xff], "malformed"),
        (&[0, 0, 0, 3, 0, 18, 0], "malformed"),
        // CreateTopics, which is not served; Metadata 1 whose array is longer than the request.
        (&[0, 0, 0, 8, 0, 19, 0, 2, 0, 0, 0, 7], "malformed"),
        (&[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 9], "malformed"),
    ];
    let counted = |why| rig.metric("weir_queue_kafka_closed_connections_total", why);
    for (bytes, why) in cases {
        let before = counted(why);
        let mut stream = TcpStream::connect(rig.address).await.expect("connects");
        stream.write_all(bytes).await.expect("sent");
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0, "{bytes:?}: the end");
        assert_eq!(counted(why), before + 1.0, "{bytes:?}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn memory_of_requests_is_waited_for_and_given_back() {
    let full = prometheus::IntCounter::new("full", "test").expect("valid");
    let memory = Memory::new(100, full.clone());
    let mut first = memory.hold(80).await;
    let second = memory.hold(40);
    tokio::pin!(second);
    assert!(futures_util::FutureExt::now_or_never(&mut second).is_none());
    assert_eq!(full.get(), 1);
    first.keep(60);
    let _second = second.await;
    drop(first);
    let _third = memory.hold(60).await;
    assert_eq!(full.get(), 1);
}
