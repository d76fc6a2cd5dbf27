//! Who of the replicas leads: a Lease, changed only with the version that was read, so that of two replicas one is refused.
//!
//! A holder gives up eight seconds after the start of its last renewal, two before others may take the lease: calls that it
//! began are over by then. Others judge by their own clock how long the lease has not changed, so clocks need not agree. Not a crate:
//! none works with this client. The price of leases in general stays: a process that is stopped for longer than the lease and then goes on
//! may end one call that it began before.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use crate::args::Args;
use crate::error::code;
use crate::others;

/// How long a lease holds that is not renewed.
const DURATION: Duration = Duration::from_secs(10);
/// After this time without a renewal the holder gives up.
const GIVE_UP: Duration = Duration::from_secs(8);
/// How often the holder renews: a third of a write a second.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// How often the others look, and how soon a failed renewal is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(3);

/// The lease, and what this replica saw of it.
pub(crate) struct Holding {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The namespaces that are watched, for other installations; see `others`.
    watched: Vec<String>,
    /// The version of the lease that was seen last, and when it was first seen.
    seen: Option<(String, Instant)>,
    /// When it must be given up.
    until: Option<Instant>,
}

#[expect(clippy::disallowed_methods, reason = "the lease is about time; nothing else reads this clock")]
fn now() -> Instant {
    Instant::now()
}

impl Holding {
    pub(crate) fn new(client: Client, args: &Args, identity: &str) -> Self {
        let api = Api::namespaced(client, &args.namespace);
        let (name, watched) = (args.controller_name.clone(), args.watch_namespaces.clone());
        Holding { api, name, identity: identity.to_owned(), watched, seen: None, until: None }
    }

    /// Resolves once the lease is held.
    pub(crate) async fn acquire(&mut self) {
        loop {
            match tokio::time::timeout(CALL, self.attempt()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be taken"),
                Err(_) => tracing::warn!("the lease cannot be taken: no answer within {CALL:?}"),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Renews the lease; resolves once it is lost.
    pub(crate) async fn hold(&mut self) {
        let mut pause = RENEW_EVERY;
        while let Some(until) = self.until {
            let renewal = async {
                tokio::time::sleep(pause).await;
                tokio::time::timeout(CALL, self.attempt()).await
            };
            pause = match tokio::time::timeout_at(until, renewal).await {
                Ok(Ok(Ok(true))) => RENEW_EVERY,
                Ok(Ok(Ok(false))) => break,
                Ok(Ok(Err(_)) | Err(_)) => LOOK_EVERY,
                Err(_) => break,
            };
        }
        self.until = None;
    }

    /// Lets another replica take it at once.
    pub(crate) async fn release(&mut self) {
        self.until = None;
        let released = async {
            let mut lease = self.api.get(&self.name).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        // Where it fails the lease ends by itself.
        if let Ok(Err(error)) = tokio::time::timeout(CALL, released).await {
            tracing::warn!(%error, "the lease was not released");
        }
    }

    /// Takes or renews it where that is allowed; whether it is held.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let began = now();
        let written = match self.api.get_opt(&self.name).await? {
            None => self.api.create(&PostParams::default(), &self.renewed(None)).await,
            Some(lease) if self.may_take(&lease) => {
                self.api.replace(&self.name, &PostParams::default(), &self.renewed(Some(lease))).await
            }
            Some(_) => return Ok(false),
        };
        match written {
            Ok(_) => {
                self.until = Some(began + GIVE_UP);
                Ok(true)
            }
            // Somebody else was faster.
            Err(error) if code(&error) == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn may_take(&mut self, lease: &Lease) -> bool {
        let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_deref()).unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, now()));
        }
        let expired = self.seen.as_ref().is_some_and(|(_, since)| since.elapsed() >= DURATION);
        holder.is_empty() || holder == self.identity || expired
    }

    fn renewed(&self, lease: Option<Lease>) -> Lease {
        let time = MicroTime(Timestamp::from_millisecond(runtime::clock::now_ms()).unwrap_or_default());
        let name = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let mut lease = lease.unwrap_or(Lease { metadata: name, spec: None });
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.insert(others::WATCHED.to_owned(), self.watched.join(","));
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
            spec.acquire_time = Some(time.clone());
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = Some(DURATION.as_secs() as i32);
        spec.renew_time = Some(time);
        lease
    }
}
