//! Starts the component: watches and admission on every replica, and what only one may do where the lease is held.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use kube::Client;
use prometheus::Registry;
use runtime::{Component, Shutdown, Token};

use crate::admission::{self, Admission};
use crate::args::Args;
use crate::error::Error;
use crate::handover::{self, Alerting, Sent};
use crate::lease::Holding;
use crate::metrics::Metrics;
use crate::tls::{self, Certificate};
use crate::webhook::{self, Place};
use crate::world::World;
use crate::write::Writer;
use crate::{others, secrets, states, status, watch};

/// What the controller needs of others.
pub struct Deps {
    /// The API server.
    pub client: Client,
    /// The token between components.
    pub token: Option<Token>,
    /// Who this replica is, another for each process: the holder of the lease.
    pub identity: String,
}

/// A started controller.
#[derive(Debug)]
pub struct Started {
    /// Its routes (none) and its end.
    pub component: Component,
    /// Where the admission webhook listens.
    pub webhook: SocketAddr,
}

/// Starts the controller. It is ready once it serves admission; resources are reconciled from then on.
pub async fn start(args: Args, deps: Deps, registry: &Registry, shutdown: Shutdown) -> Result<Started, Error> {
    let metrics = Metrics::new(registry)?;
    args.check()?;
    let http = reqwest::Client::builder()
        .pool_idle_timeout(runtime::listener::CLIENT_IDLE)
        .build()
        .map_err(|e| Error::System(e.to_string()))?;
    let (listener, webhook) = runtime::listener::bind(&args.webhook_listen).await.map_err(Error::System)?;
    let place = Place::new(&args, webhook.port());
    if place.is_none() {
        tracing::warn!("neither --webhook-service nor --webhook-url: resources are not checked when they are applied");
    }
    let world = Arc::new(World::new(args.instance()));
    let alerting = Alerting::new(http.clone(), &args.alerting_url, deps.token);
    let admission = Admission { args: args.clone(), world: world.clone(), http, metrics: metrics.clone() };
    let router = admission::routes(Arc::new(admission));
    let certificate = Certificate::default();
    let serving = tls::serve(listener, router, certificate.clone(), metrics.clone(), shutdown.clone());
    let replica = Replica { args, client: deps.client, identity: deps.identity, world, alerting, metrics };
    let running = async move {
        let mut stopping = shutdown.clone();
        let background = async {
            let webhook = async {
                match &place {
                    Some(place) => {
                        webhook::run(replica.client.clone(), &replica.args, place, &certificate, &replica.metrics).await
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::join!(
                watch::rules(replica.client.clone(), &replica.args, &replica.world, &replica.metrics),
                watch::channels(replica.client.clone(), &replica.args, &replica.world, &replica.metrics),
                others::run(replica.client.clone(), &replica.world, &replica.metrics),
                secrets::run(replica.client.clone(), &replica.world, &replica.metrics),
                webhook,
            )
        };
        let background = async {
            tokio::select! {
                _ = background => {}
                () = stopping.asked() => {}
            }
        };
        tokio::join!(background, replica.lead(shutdown), serving);
    };
    let task = tokio::spawn(running);
    let drained = Box::pin(async move { Ok(task.await?) });
    Ok(Started { component: Component { name: "controller", router: Router::new(), drained }, webhook })
}

struct Replica {
    args: Args,
    client: Client,
    identity: String,
    world: Arc<World>,
    alerting: Alerting,
    metrics: Metrics,
}

impl Replica {
    /// Waits for the lease, works while it is held, and gives it back. Losing it drops the work where it stands, so nothing is written
    /// after that.
    async fn lead(&self, mut shutdown: Shutdown) {
        let mut lease = Holding::new(self.client.clone(), &self.args, &self.identity);
        loop {
            tokio::select! {
                () = lease.acquire() => {}
                () = shutdown.asked() => return,
            }
            tracing::info!(identity = self.identity, "leading");
            self.metrics.leading.set(1);
            tokio::select! {
                () = lease.hold() => tracing::warn!("the lease is lost; another replica leads"),
                () = self.work() => {}
                () = shutdown.asked() => {}
            }
            self.metrics.leading.set(0);
            if shutdown.is_asked() {
                return lease.release().await;
            }
        }
    }

    async fn work(&self) {
        let sent = Sent::default();
        let epoch = format!("{}.{}", self.identity, runtime::clock::now_ms());
        let writer = Writer::new(self.client.clone(), &self.identity, self.metrics.clone());
        tokio::join!(
            handover::run(&self.alerting, &self.world, &sent, &epoch, &self.metrics),
            states::run(&self.alerting, &self.world, &sent),
            status::run(&self.world, &writer, &self.metrics),
        );
    }
}
