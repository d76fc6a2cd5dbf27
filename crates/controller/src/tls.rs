//! Serves the admission webhook over TLS, with a certificate that can be exchanged while it runs.
//!
//! Not part of `runtime::listener`: nothing else of Weir ends TLS, and the API server is the only client, so the bounds are smaller.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use crate::certificate::Material;
use crate::error::Error;
use crate::metrics::Metrics;

/// Connections at once: each API server keeps a few.
pub(crate) const CONNECTIONS_MAX: usize = 256;
/// Time for a handshake, and for the headers of a request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for reviews in flight to end; the API server waits no longer for one.
const DRAIN: Duration = Duration::from_secs(10);

/// The certificate in use; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificate(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Certificate {
    /// New connections get this one.
    pub(crate) fn set(&self, material: &Material) -> Result<(), Error> {
        let fault = |e: &dyn std::fmt::Display| Error::Certificate(e.to_string());
        let chain = CertificateDer::pem_slice_iter(material.certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|e| fault(&e))?;
        let key = PrivateKeyDer::from_pem_slice(material.key.as_bytes()).map_err(|e| fault(&e))?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| fault(&e))?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|e| fault(&e))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves until the shutdown is asked for.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    certificate: Certificate,
    metrics: Metrics,
    mut shutdown: runtime::Shutdown,
) {
    let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100);
    let builder = Arc::new(builder);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shutdown.asked() => break,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of the API server");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            metrics.connections_refused.inc();
            continue;
        };
        let watcher = graceful.watcher();
        connections.spawn(connection(stream, acceptor.clone(), builder.clone(), router.clone(), watcher, slot));
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("admission reviews were still in flight after {DRAIN:?} and are cut off");
    }
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    builder: Arc<auto::Builder<TokioExecutor>>,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
    slot: tokio::sync::OwnedSemaphorePermit,
) {
    let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        // A client that does not believe the certificate, or is none of TLS.
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let serving = watcher.watch(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned());
    // A client that goes away is no event.
    let _ = serving.await;
    drop(slot);
}
