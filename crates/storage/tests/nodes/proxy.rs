//! A wire between a reader and a node that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes bytes on, and cuts a connection after so many from the node.
pub(crate) struct Proxy {
    pub(crate) url: String,
    /// Connections that were accepted.
    pub(crate) accepted: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// The first `cuts` connections carry `bytes` from the node before they break.
    pub(crate) async fn start(node: &str, cuts: usize, bytes: usize) -> Proxy {
        let node: SocketAddr = node.trim_start_matches("http://").parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = accepted.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("accepts");
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let limit = if number < cuts { bytes } else { usize::MAX };
                tokio::spawn(pass(client, node, limit));
            }
        });
        Proxy { url, accepted, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, node: SocketAddr, mut limit: usize) {
    let Ok(node) = TcpStream::connect(node).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let forth = async { tokio::io::copy(&mut from_client, &mut to_node).await.map(drop) };
    let back = async {
        let mut buffer = vec![0; 4096];
        while limit > 0 {
            let wanted = buffer.len().min(limit);
            let read = from_node.read(&mut buffer[..wanted]).await?;
            if read == 0 {
                break;
            }
            to_client.write_all(&buffer[..read]).await?;
            limit -= read;
        }
        Ok::<_, std::io::Error>(())
    };
    // Whichever ends first ends both.
    tokio::select! { _ = forth => {}, _ = back => {} }
}
