//! The smallest webhook there is: answers 200, and hands on what it was sent.

use anyhow::Context as _;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Notifications that wait to be looked at; the demo's rule makes two.
const WAITING_MAX: usize = 64;

/// A webhook of this process; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sink {
    received: mpsc::Receiver<Value>,
    server: JoinHandle<()>,
    /// Where it listens.
    pub(super) address: std::net::SocketAddr,
}

impl Sink {
    /// Listens at an address.
    pub(super) async fn start(address: &str) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("listening for notifications on {address}"))?;
        let address = listener.local_addr()?;
        let (sender, received) = mpsc::channel(WAITING_MAX);
        let router = Router::new().fallback(post(receive)).with_state(sender);
        let server = tokio::spawn(async move {
            // Ends with an error only where accepting fails for good; then no notification comes, which is reported.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Sink { received, server, address })
    }

    /// The next notification. Cancel-safe.
    pub(super) async fn next(&mut self) -> Value {
        match self.received.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(sender): State<mpsc::Sender<Value>>, Json(body): Json<Value>) -> &'static str {
    // Where it is full, nobody looks, and the rest is not missed.
    let _ = sender.try_send(body);
    "thank you\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_posted_anywhere_is_handed_on() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut sink = Sink::start("127.0.0.1:0").await.expect("listens");
        let client = crate::client::Client::new(&sink.address.to_string()).expect("client");
        let answer =
            client.post("/any/path", "application/json", br#"{"status":"firing"}"#.to_vec()).await.expect("answered");
        assert_eq!(answer.status, 200);
        assert_eq!(sink.next().await["status"], "firing");
    }
}
