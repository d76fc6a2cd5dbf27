//! Replicas whose blocks are in a bucket too: one that loses its directory has it again from there and from the log, and answers stay what they were.

#[path = "../../../runtime/tests/support/port.rs"]
mod port;
#[path = "../../../runtime/tests/support/s3.rs"]
mod s3;
#[path = "../../../runtime/tests/support/skips.rs"]
mod skips;
#[path = "../../../runtime/tests/support/until.rs"]
mod until;

use std::sync::Arc;

use model::Sample;
use s3::S3;
use skips::file_of;
use storage::Replica;
use storage::objects::Keys;
use storage::reader::FanOut;
use until::until;

use crate::support::{
    Bed, PARTITIONS, Samples, Served, Storage, fan_out, install_crypto, metric, select, series, serve,
};

const REPLICAS: u32 = 3;

/// Replicas with their blocks in a bucket, and what was written.
struct World {
    bed: Bed,
    server: Arc<S3>,
    prefix: String,
    copies: u32,
    nodes: Vec<Option<(Storage, Served)>>,
    written: Samples,
}

impl World {
    async fn start(server: Arc<S3>, prefix: &str, copies: u32) -> World {
        // A segment is a record or two, and nothing is kept for its age.
        let groups = (0..REPLICAS).map(|n| format!("storage-{n}")).collect::<Vec<_>>().join(",");
        let holding = format!("--queue-holding-groups={groups}");
        let bed = Bed::with_log(&["--queue-segment-bytes=200", "--queue-retention=1ms", &holding]).await;
        let (nodes, written) = (Vec::new(), Samples::new());
        let mut world = World { bed, server, prefix: format!("{prefix}-{copies}"), copies, nodes, written };
        for number in 0..REPLICAS {
            let node = world.node(number).await;
            world.nodes.push(Some(node));
        }
        world
    }

    async fn node(&self, number: u32) -> (Storage, Served) {
        let replica = Replica { number, of: REPLICAS, copies: self.copies };
        let flags = [
            format!("--storage-objects=s3://{}/{}", s3::BUCKET, self.prefix),
            format!("--storage-objects-endpoint={}", self.server.url),
            "--storage-flush-interval=1d".to_owned(),
            // So that what is answered was in the bucket.
            "--storage-cache-bytes=0".to_owned(),
        ];
        let keys = Keys { id: s3::KEY.to_owned(), secret: s3::SECRET.to_owned() };
        let dir = format!("storage-{number}");
        let storage = self.bed.storage_with(&dir, replica, &flags, Some(keys)).await.expect("starts");
        let served = serve(storage.node.clone(), None).await;
        (storage, served)
    }

    async fn stop(&mut self, number: u32) {
        let (storage, served) = self.nodes[number as usize].take().expect("it is up");
        served.stop().await;
        storage.stop().await;
    }

    /// A replica that comes again, with its directory or without.
    async fn restart(&mut self, number: u32) {
        let node = self.node(number).await;
        self.nodes[number as usize] = Some(node);
    }

    async fn write(&mut self, t: i64) {
        for n in 0..40 {
            let v = (t * 1000 + n as i64) as f64;
            self.bed.write(&series(n), &[Sample { t, v }]).await;
            self.written.entry(series(n)).or_default().push((t, v.to_bits()));
        }
    }

    fn reader(&self) -> Arc<FanOut> {
        let urls: Vec<String> = self.nodes.iter().flatten().map(|(_, served)| served.url.clone()).collect();
        Arc::new(fan_out(&urls, self.copies))
    }

    /// All replicas together answer what was written, and no warning.
    async fn check(&self) {
        assert_eq!(select(&self.reader()).await.expect("answers"), (self.written.clone(), Vec::new()));
    }

    /// Records that a replica read from the log since it was started last.
    fn applied(&self, number: u32) -> f64 {
        let (storage, _) = self.nodes[number as usize].as_ref().expect("it is up");
        metric(&storage.registry, "weir_storage_applied_records_total")
    }
}

/// Each replica in turn loses its directory, after the log has removed what the bucket has, and while records come that the bucket has not.
async fn replicas_lose_their_directories(test: &str, copies: u32) {
    let Some(bin) = file_of(test, "S3_BIN") else { return };
    install_crypto();
    let server = tokio::task::spawn_blocking(|| S3::shared(bin)).await.expect("starts");
    let mut world = World::start(server, test, copies).await;
    world.write(1).await;
    world.check().await;
    // A replica that ends writes its blocks, and the log is told what the bucket has of them.
    for number in 0..REPLICAS {
        world.stop(number).await;
        world.restart(number).await;
    }
    world.check().await;
    let mut ends = Vec::new();
    for partition in 0..PARTITIONS {
        ends.push(world.bed.log.bounds(partition).await.expect("answers").end);
    }
    world.write(2).await;
    until("removed by the log", async || {
        for (partition, end) in (0..).zip(&ends) {
            // A segment of a few records stays that has newer ones too.
            if world.bed.log.bounds(partition).await.expect("answers").start + 3 < *end {
                return false;
            }
        }
        true
    })
    .await;
    world.check().await;
    for number in 0..REPLICAS {
        world.stop(number).await;
        world.write(3 + i64::from(number)).await;
        world.bed.empty(&format!("storage-{number}"));
        world.restart(number).await;
        world.check().await;
        assert!(world.applied(number) > 0.0, "what came meanwhile is read from the log");
    }
    world.write(9).await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_its_directory_has_it_again_from_the_bucket_and_the_log() {
    replicas_lose_their_directories("a_replica_that_lost_its_directory_has_it_again_from_the_bucket_and_the_log", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_copies_that_lost_its_directory_has_it_again_from_the_bucket_and_the_log() {
    let test = "one_of_several_copies_that_lost_its_directory_has_it_again_from_the_bucket_and_the_log";
    replicas_lose_their_directories(test, 2).await;
}
