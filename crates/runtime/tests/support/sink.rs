//! A webhook, for the tests of all components, which include this file.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::routing::post;
use serde_json::Value;
use tokio::sync::mpsc;

/// How long a notification may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

/// A webhook that hands on what it receives.
pub(crate) struct Sink {
    pub(crate) url: String,
    received: mpsc::Receiver<Value>,
}

impl Sink {
    /// Starts it on a port that is free; it ends with the test's runtime.
    pub(crate) async fn start() -> Sink {
        let (sender, received) = mpsc::channel(100);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let receive = |State(sender): State<mpsc::Sender<Value>>, Json(body): Json<Value>| async move {
            sender.send(body).await.expect("the test reads");
        };
        let router = axum::Router::new().route("/hook", post(receive)).with_state(sender);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Sink { url, received }
    }

    /// The next notification.
    pub(crate) async fn next(&mut self) -> Value {
        let received = tokio::time::timeout(PATIENCE, self.received.recv()).await.expect("a notification comes");
        received.expect("the sink runs")
    }

    /// Whether nothing else came so far.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.received.try_recv().is_err()
    }
}
