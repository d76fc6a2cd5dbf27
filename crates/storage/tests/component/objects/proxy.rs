//! A wire to the S3 server on which answers fail, stay away, or get lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Status 500, and the server never hears of it.
    Refuse,
    /// No answer, and the server never hears of it.
    Silence,
    /// The server does it, and its answer does not arrive.
    LoseAnswer,
}

/// A number of requests with which something goes wrong.
#[derive(Debug)]
struct Plan {
    method: &'static str,
    /// A part of the path.
    path: &'static str,
    times: usize,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    plans: Vec<Plan>,
    /// Requests as method, path and range.
    seen: Vec<String>,
}

/// Passes requests on, but for those that were planned to fail.
pub(crate) struct Proxy {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: &str) -> Proxy {
        let server = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("accepts");
                let (server, state) = (server.clone(), shared.clone());
                tokio::spawn(async move {
                    // A client that goes away is not the proxy's business.
                    let _ = pass(client, &server, &state).await;
                });
            }
        });
        Proxy { url, state, task }
    }

    /// From now on, the next requests of a method whose path has a part go wrong.
    pub(crate) fn plan(&self, method: &'static str, path: &'static str, times: usize, fault: Fault) {
        self.lock().plans.push(Plan { method, path, times, fault });
    }

    /// How many requests are still to go wrong.
    pub(crate) fn left(&self) -> usize {
        self.lock().plans.iter().map(|plan| plan.times).sum()
    }

    /// Nothing goes wrong any more.
    pub(crate) fn mend(&self) {
        self.lock().plans.clear();
    }

    /// The requests since the last time that this was asked.
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().seen)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads one request, and answers it: each connection has one.
async fn pass(mut client: TcpStream, server: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let head = loop {
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let header = |name: &str| {
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    let length: usize = header("content-length:").and_then(|n| n.parse().ok()).unwrap_or(0);
    while request.len() < head + length {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = text.lines().next().unwrap_or_default();
    let (method, path) =
        line.split_once(' ').map(|(m, rest)| (m, rest.split(' ').next().unwrap_or(""))).unwrap_or_default();
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen.push(format!("{method} {path} {}", header("range:").unwrap_or_default()));
        let is_meant = |plan: &&mut Plan| plan.times > 0 && plan.method == method && path.contains(plan.path);
        state.plans.iter_mut().find(is_meant).map(|plan| {
            plan.times -= 1;
            plan.fault
        })
    };
    match fault {
        Some(Fault::Refuse) => {
            client
                .write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await
        }
        Some(Fault::Silence) => {
            // Until the client gives up.
            while client.read_buf(&mut request).await? > 0 {}
            Ok(())
        }
        fault => {
            let answer = ask(server, line, &request[line.len()..]).await?;
            if fault.is_none() { client.write_all(&answer).await } else { Ok(()) }
        }
    }
}

/// What the server answers, after which it closes the connection.
async fn ask(server: &str, line: &str, rest: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut connection = TcpStream::connect(server).await?;
    connection.write_all(format!("{line}\r\nConnection: close").as_bytes()).await?;
    connection.write_all(rest).await?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await?;
    Ok(answer)
}
