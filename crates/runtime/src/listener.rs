//! Accepts connections and serves HTTP/1.1 and HTTP/2 over them, with bounds and a drain.
//!
//! Not `axum::serve`, since that has no bound of connections, no time limit for headers, and no end to the drain. A handler that panics
//! answers 500 and ends nothing else. A client whose request was refused unread gets the answer all the same ([`unread`]). TLS is not here yet.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use prometheus::{IntCounter, IntGauge, Registry};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use crate::metrics::register_bounds;
use crate::{Routes, Shutdown, unread};

/// Connections served at once; more wait to be accepted. Each takes some tens of kilobytes.
const CONNECTIONS_MAX: usize = 4096;
/// Time for a client to send the headers of a request. It begins when the request before is answered, so it is also that for which a connection may be idle:
/// as many as there may be are not enough for all who send once in a while.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long a client of Weir's own keeps a connection that it does not need: less than a server does, which else may close it while a request is on its way.
pub const CLIENT_IDLE: Duration = Duration::from_secs(5);
/// Time for requests in flight to end once the process is asked to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// Who sent a request: found among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Binds an address, `HOST:PORT`, port 0 for one that is free. The error names the address.
pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), String> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, local))
    };
    bound.await.map_err(|e| format!("cannot listen on {address}: {e}"))
}

/// Serves until the shutdown is asked for and the requests in flight have ended, or the time for that is over. Handlers that wait for
/// something find the [`Shutdown`] among the extensions of their request, so that they need not hold up the drain; the [`Peer`] is there too.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    registry: &Registry,
    mut shutdown: Shutdown,
) -> Result<(), prometheus::Error> {
    let open = IntGauge::new("weir_http_connections", "Connections that are open.")?;
    let full =
        IntCounter::new("weir_http_connection_limit_hits_total", "Times that the limit of connections was reached.")?;
    let panics = IntCounter::new("weir_http_panics_total", "Requests whose handler panicked.")?;
    let cut = IntCounter::new(
        "weir_http_bodies_cut_total",
        "Requests whose body was not read and was too long, or too slow, to be thrown away before the answer.",
    )?;
    registry.register(Box::new(open.clone()))?;
    registry.register(Box::new(full.clone()))?;
    registry.register(Box::new(panics.clone()))?;
    register_bounds(
        registry,
        &[("weir_http_connections_max", "Connections that are served at once; more wait.", CONNECTIONS_MAX as u64)],
    )?;
    registry.register(Box::new(cut.clone()))?;
    let counters = Counters { panics, cut };
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).keep_alive(true);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX);
    loop {
        if slots.available_permits() == 0 {
            full.inc();
        }
        let accepted = tokio::select! {
            () = shutdown.asked() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, peer, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files: others close some.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (routes, counters, open, draining) = (routes.clone(), counters.clone(), open.clone(), shutdown.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(draining.clone());
            request.extensions_mut().insert(peer);
            answer(routes.clone(), request, counters.clone())
        });
        let connection =
            graceful.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
        open.inc();
        tokio::spawn(async move {
            // A client that goes away is no event.
            let _ = connection.await;
            open.dec();
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight after {DRAIN_TIMEOUT:?} and are cut off");
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, Peer(peer), slot))
}

/// What is counted of requests.
#[derive(Clone)]
struct Counters {
    panics: IntCounter,
    cut: IntCounter,
}

async fn answer(
    routes: Routes,
    request: Request<Incoming>,
    counters: Counters,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (request, rest) = unread::lend(request.map(Body::new));
    let answered = AssertUnwindSafe(routes.current().oneshot(request)).catch_unwind().await;
    let response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(never)) => match never {},
        Err(_) => {
            counters.panics.inc();
            let mut response = Response::new(Body::from("internal error: the handler of this request panicked\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    // Who sent too slowly has been waited for already.
    if response.status() != StatusCode::REQUEST_TIMEOUT {
        rest.discard(&counters.cut).await;
    }
    Ok(response)
}
