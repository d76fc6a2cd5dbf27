use bytes::{BufMut as _, BytesMut};
use kafka_protocol::messages::{
    FetchRequest, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, RequestHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest, fetch_request, list_offsets_request, metadata_request, offset_commit_request,
    offset_fetch_request, produce_request,
};
use kafka_protocol::protocol::{Encodable, Request as Message, StrBytes};
use proptest::prelude::*;

use super::*;

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// A request as the library writes it, without the length.
fn written<M: Message>(version: i16, message: &M) -> Bytes {
    let mut out = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(M::KEY)
        .with_request_api_version(version)
        .with_correlation_id(42)
        .with_client_id(Some(text("me")));
    header.encode(&mut out, M::header_version(version)).expect("written");
    message.encode(&mut out, version).expect("written");
    out.freeze()
}

fn read(frame: Bytes) -> Result<Request, String> {
    let mut reader = Reader::new(frame);
    let (head, api) = Head::read(&mut reader).map_err(|e| e.to_string())?;
    assert_eq!(head.correlation_id, 42);
    Request::read(api.expect("served").key, head.version, reader).map_err(|e| e.to_string())
}

/// Every version that is served reads as expected, and no part of it does.
fn check<M: Message>(message: impl Fn(i16) -> M, expect: impl Fn(i16) -> Request) {
    let api = APIS.into_iter().find(|api| api.key as i16 == M::KEY).expect("served");
    for version in api.min..=api.max {
        let frame = written(version, &message(version));
        assert_eq!(read(frame.clone()), Ok(expect(version)), "{:?} {version}", api.key);
        let head = 8 + 2 + 2 + usize::from(version >= api.flexible);
        for end in head..frame.len() {
            assert!(read(frame.slice(..end)).is_err(), "{:?} {version} cut at {end} of {}", api.key, frame.len());
        }
        let mut longer = frame.to_vec();
        longer.push(0);
        assert!(read(longer.into()).is_err(), "{:?} {version} with a byte too many", api.key);
    }
}

#[test]
fn requests_of_every_version_are_read_as_the_library_writes_them() {
    check(
        |_| SaslHandshakeRequest::default().with_mechanism(text("PLAIN")),
        |_| Request::SaslHandshake { mechanism: "PLAIN".to_owned() },
    );
    check(
        |_| SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0a\0b")),
        |_| Request::SaslAuthenticate { token: Bytes::from_static(b"\0a\0b") },
    );
    let topic = || metadata_request::MetadataRequestTopic::default().with_name(Some(text("t").into()));
    check(
        |_| MetadataRequest::default().with_topics(Some(vec![topic(), topic()])),
        |_| Request::Metadata { topics: Some(vec![Some("t".to_owned()), Some("t".to_owned())]) },
    );
    check(|_| MetadataRequest::default().with_topics(None), |_| Request::Metadata { topics: None });
    check(
        |_| InitProducerIdRequest::default().with_transactional_id(None),
        |_| Request::InitProducerId { transactional: false },
    );
    check(
        |_| FindCoordinatorRequest::default().with_key(text("g")).with_key_type(0),
        |_| Request::FindCoordinator { key_type: 0 },
    );
}

#[test]
fn requests_to_read_and_write_are_read_as_the_library_writes_them() {
    let records = Bytes::from_static(b"some records");
    let produced = produce_request::PartitionProduceData::default().with_index(3).with_records(Some(records.clone()));
    let topic = produce_request::TopicProduceData::default().with_name(text("t").into());
    let topic = topic.with_partition_data(vec![produced]);
    check(
        |_| ProduceRequest::default().with_acks(-1).with_transactional_id(None).with_topic_data(vec![topic.clone()]),
        |_| {
            let topics = vec![Topic { name: "t".to_owned(), partitions: vec![(3, Some(records.clone()))] }];
            Request::Produce(Produce { transactional: false, acks: -1, topics })
        },
    );
    let wanted =
        fetch_request::FetchPartition::default().with_partition(1).with_fetch_offset(9).with_partition_max_bytes(77);
    let topic = fetch_request::FetchTopic::default().with_topic(text("t").into()).with_partitions(vec![wanted]);
    let forgotten = fetch_request::ForgottenTopic::default().with_topic(text("t").into()).with_partitions(vec![4, 5]);
    check(
        |version| {
            let fetch = FetchRequest::default().with_max_wait_ms(5).with_min_bytes(6).with_max_bytes(7);
            let fetch = fetch.with_topics(vec![topic.clone()]);
            // Fields of a session are not in the versions before.
            if version < 7 { fetch } else { fetch.with_forgotten_topics_data(vec![forgotten.clone()]) }
        },
        |_| {
            let partitions = vec![FetchPartition { partition: 1, offset: 9, max_bytes: 77 }];
            let topics = vec![Topic { name: "t".to_owned(), partitions }];
            Request::Fetch(Fetch { max_wait_ms: 5, min_bytes: 6, max_bytes: 7, session_epoch: -1, topics })
        },
    );
}

#[test]
fn requests_about_offsets_are_read_as_the_library_writes_them() {
    let wanted = list_offsets_request::ListOffsetsPartition::default().with_partition_index(2).with_timestamp(-1);
    let topic = list_offsets_request::ListOffsetsTopic::default().with_name(text("t").into());
    let topic = topic.with_partitions(vec![wanted]);
    let expect = |number| vec![Topic { name: "t".to_owned(), partitions: vec![(2, number)] }];
    check(
        |_| ListOffsetsRequest::default().with_topics(vec![topic.clone()]),
        |_| Request::ListOffsets { topics: expect(-1) },
    );
    let committed = offset_commit_request::OffsetCommitRequestPartition::default()
        .with_partition_index(2)
        .with_committed_offset(8)
        .with_committed_metadata(Some(text("note")));
    let topic = offset_commit_request::OffsetCommitRequestTopic::default().with_name(text("t").into());
    let topic = topic.with_partitions(vec![committed]);
    check(
        |_| OffsetCommitRequest::default().with_group_id(text("g").into()).with_topics(vec![topic.clone()]),
        |_| Request::OffsetCommit { group: "g".to_owned(), generation: -1, topics: expect(8) },
    );
    let topic = offset_fetch_request::OffsetFetchRequestTopic::default().with_name(text("t").into());
    let topic = topic.with_partition_indexes(vec![0, 1]);
    check(
        |_| OffsetFetchRequest::default().with_group_id(text("g").into()).with_topics(Some(vec![topic.clone()])),
        |_| {
            let topics = Some(vec![Topic { name: "t".to_owned(), partitions: vec![0, 1] }]);
            Request::OffsetFetch { group: "g".to_owned(), topics }
        },
    );
}

#[test]
fn what_an_array_says_of_its_length_allocates_nothing() {
    for claimed in [4097, i32::MAX] {
        let mut frame = BytesMut::new();
        frame.put_slice(&[0, 3, 0, 1, 0, 0, 0, 42, 0xff, 0xff]);
        frame.put_i32(claimed);
        frame.put_slice(&[0; 64]);
        let refused = read(frame.freeze()).expect_err("refused");
        assert!(refused.starts_with("more than 4096 elements"), "{refused}");
    }
}

#[test]
fn apis_and_versions_that_are_not_served_are_told_from_damage() {
    let head = |key: i16, version: i16| {
        let mut frame = BytesMut::new();
        frame.put_i16(key);
        frame.put_i16(version);
        frame.put_i32(42);
        Head::read(&mut Reader::new(frame.freeze())).map(|(_, api)| api.is_some())
    };
    assert_eq!(head(19, 0), Ok(false), "CreateTopics");
    assert_eq!(head(18, 5), Ok(false), "ApiVersions of the future");
    assert_eq!(head(0, 2), Ok(false), "Produce with old messages");
    assert!(head(18, 4).is_err(), "served, but the client's name is not there");
    assert!(Head::read(&mut Reader::new(Bytes::from_static(&[0, 18]))).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        api in 0..APIS.len(), version in 0i16..13, body in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let mut frame = BytesMut::new();
        frame.put_i16(APIS[api].key as i16);
        frame.put_i16(version);
        frame.put_slice(&[0, 0, 0, 42, 0xff, 0xff, 0]);
        frame.put_slice(&body);
        let mut reader = Reader::new(frame.freeze());
        if let Ok((head, Some(api))) = Head::read(&mut reader) {
            let _ = Request::read(api.key, head.version, reader);
        }
    }
}
