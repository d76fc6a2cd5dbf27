//! The routes themselves: what is refused and how, and that nobody is kept working for a reader that hung up.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::future::join_all;
use storage::Replica;
use storage::serve::{Node, router};
use tower::ServiceExt;

use crate::support::{Fake, PARTITIONS, PATIENCE, metric};

/// A select of everything: all times, with samples, any number of series, no matcher.
const SELECT: &[u8] = &[1, 2, 1, 100, 0];

struct Rig {
    fake: Arc<Fake>,
    router: axum::Router,
    registry: prometheus::Registry,
}

fn rig() -> Rig {
    let fake = Arc::new(Fake::new(&[(1, 1.0)]));
    let registry = prometheus::Registry::new();
    let node =
        Node { reader: fake.clone(), replica: Replica::ALONE, partitions: PARTITIONS, memory: Default::default() };
    Rig { fake, router: router(node, None, &registry).expect("routes"), registry }
}

impl Rig {
    async fn post(&self, path: &str, body: impl Into<Body>) -> Response<Body> {
        let request = Request::post(format!("/storage/v2{path}")).body(body.into()).expect("a request");
        self.router.clone().oneshot(request).await.expect("a router always answers")
    }

    async fn refused(&self, path: &str, body: impl Into<Body>) -> (StatusCode, String, Option<String>) {
        let response = self.post(path, body).await;
        let retry = response.headers().get("retry-after").map(|v| v.to_str().expect("text").to_owned());
        let status = response.status();
        let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8(text.to_vec()).expect("text"), retry)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_cannot_be_read_are_refused() {
    let rig = rig();
    let (status, text, _) = rig.refused("/select", vec![1, 2]).await;
    assert_eq!(
        (status, text.as_str()),
        (StatusCode::BAD_REQUEST, "the question cannot be read at byte 2: ends too early\n")
    );
    let (status, _, _) = rig.refused("/select", vec![0; (4 << 20) + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _, _) = rig.refused("/absent", vec![]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_reads_are_refused_and_those_that_nobody_waits_for_end() {
    let rig = rig();
    rig.fake.holds.store(true, Ordering::SeqCst);
    let mut reads = Box::pin(join_all((0..64).map(|_| rig.post("/select", SELECT))));
    tokio::select! {
        _ = &mut reads => panic!("they are held"),
        () = rig.fake.until_held(64) => {}
    }
    let (status, text, retry) = rig.refused("/select", SELECT).await;
    assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "too many reads are being answered\n"));
    assert_eq!(retry.as_deref(), Some("1"));
    assert_eq!(metric(&rig.registry, "weir_storage_refused_reads_total"), 1.0);
    drop(reads);
    rig.fake.until_held(0).await;
    rig.fake.holds.store(false, Ordering::SeqCst);
    let ended = async {
        while metric(&rig.registry, "weir_storage_running_reads") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("all have ended");
    assert_eq!(rig.post("/select", SELECT).await.status(), StatusCode::OK);
}
