//! Reads the Secrets that channels refer to: each by its name, and again on an interval.
//!
//! Not a watch, which needs the right to list, and with it to read every Secret of the cluster. The price is that a changed value is in use
//! only after the interval.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use tokio::time::MissedTickBehavior;

use crate::metrics::Metrics;
use crate::world::World;

/// How often each is read again.
const READ_EVERY: Duration = Duration::from_secs(30);
/// How many are read: with the interval, some 33 reads a second.
pub(crate) const SECRETS_MAX: usize = 1000;

/// A namespace, and the name of a Secret in it.
type Place = (String, String);

/// A Secret, and a version of a channel that refers to it, which is a reason to read it.
type Reason = (Place, (String, i64));

/// Reads for as long as it is polled.
pub(crate) async fn run(client: Client, world: &World, metrics: &Metrics) {
    let mut bell = world.listen();
    let mut known: BTreeSet<Reason> = BTreeSet::new();
    // Of its own: what rings more often does not put it off.
    let mut again = tokio::time::interval(READ_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    again.reset();
    loop {
        bell.borrow_and_update();
        if world.lock().channels_listed {
            let wanted = wanted(world, metrics);
            read(&client, world, wanted.difference(&known).map(|(place, _)| place).collect()).await;
            let places: BTreeSet<&Place> = wanted.iter().map(|(place, _)| place).collect();
            world.lock().secrets.retain(|place, _| places.contains(place));
            known = wanted;
            let mut inner = world.lock();
            if !std::mem::replace(&mut inner.secrets_read, true) {
                drop(inner);
                world.ring();
            }
        }
        tokio::select! {
            _ = bell.changed() => {}
            _ = again.tick() => known.clear(),
        }
    }
}

fn wanted(world: &World, metrics: &Metrics) -> BTreeSet<Reason> {
    let inner = world.lock();
    let (mut places, mut wanted) = (BTreeSet::new(), BTreeSet::new());
    for channel in inner.channels.values() {
        let Ok(document) = &channel.verdict else { continue };
        for (_, key) in document.spec.webhook.iter().flat_map(|webhook| webhook.references()) {
            let place = (channel.identity.namespace.clone(), key.name.clone());
            if places.len() < SECRETS_MAX || places.contains(&place) {
                places.insert(place.clone());
                wanted.insert((place, (channel.identity.uid.clone(), channel.identity.generation)));
            } else {
                metrics.secrets_left_out.inc();
            }
        }
    }
    wanted
}

async fn read(client: &Client, world: &World, places: BTreeSet<&Place>) {
    for place in places {
        let api: Api<Secret> = Api::namespaced(client.clone(), &place.0);
        match api.get_opt(&place.1).await {
            Ok(secret) => world.secret_read(place.clone(), secret.map(values)),
            // What was read before holds.
            Err(error) => tracing::warn!(namespace = place.0, secret = place.1, %error, "a Secret cannot be read"),
        }
    }
}

/// The values that are text; a header or a URL can be nothing else.
fn values(secret: Secret) -> BTreeMap<String, String> {
    let data = secret.data.unwrap_or_default();
    data.into_iter().filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect()
}
