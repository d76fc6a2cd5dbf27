//! Looks for the other installations of Weir that resources name as the one that manages them.
//!
//! Of two controllers that watch the same resource the first to write its status keeps it. The other leaves it alone, hands nothing of it
//! over, and says so, for as long as the first is installed and watches that namespace: its lease tells both, and goes when it is
//! uninstalled. The price is the right to read leases by name in all namespaces, and that an installation that is there and does
//! not run keeps what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;

use crate::metrics::Metrics;
use crate::world::{Key, Managed, Other, World};

/// The annotation of a lease that tells which namespaces its controller watches, separated by commas; empty for all.
pub(crate) const WATCHED: &str = "weir.dev/watch-namespaces";
/// How often each is looked for again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks for them for as long as it is polled.
pub(crate) async fn run(client: Client, world: &World, metrics: &Metrics) {
    let mut bell = world.listen();
    let (mut said, mut failed) = (BTreeMap::new(), BTreeSet::new());
    let mut again = tokio::time::interval(LOOK_EVERY);
    loop {
        bell.borrow_and_update();
        let mut names = std::mem::take(&mut world.lock().named);
        if names.is_empty() {
            tokio::select! {
                _ = bell.changed() => continue,
                _ = again.tick() => {}
            }
            names = std::mem::take(&mut failed);
            names.extend(world.lock().others.keys().cloned());
        }
        failed.extend(look(&client, world, names).await);
        let left = count(world, metrics);
        say(&left, &said);
        said = left;
    }
}

/// Returns those that could not be looked for.
async fn look(client: &Client, world: &World, names: BTreeSet<String>) -> BTreeSet<String> {
    let mut failed = BTreeSet::new();
    for name in names {
        let Some((namespace, lease)) = name.split_once('/') else {
            // No name of a lease, so nobody's.
            found_out(world, name, Other::Gone);
            continue;
        };
        match Api::<Lease>::namespaced(client.clone(), namespace).get_opt(lease).await {
            Ok(found) => found_out(world, name, read(found)),
            Err(error) => {
                tracing::warn!(installation = name, %error, "another installation cannot be looked for; what it manages is left alone");
                failed.insert(name);
            }
        }
    }
    failed
}

fn read(lease: Option<Lease>) -> Other {
    let Some(lease) = lease else { return Other::Gone };
    let watched = lease.metadata.annotations.and_then(|mut all| all.remove(WATCHED)).unwrap_or_default();
    Other::Watches(watched.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// What was found out of another installation decides what becomes of the resources that it manages.
fn found_out(world: &World, name: String, other: Other) {
    let mut inner = world.lock();
    if inner.others.get(&name) == Some(&other) {
        return;
    }
    inner.others.insert(name.clone(), other);
    let rules = inner.rules.iter().filter(|(_, r)| r.stored.managed_by() == Some(&name));
    let channels = inner.channels.iter().filter(|(_, c)| c.stored.managed_by() == Some(&name));
    let keys: Vec<Key> =
        rules.map(|(uid, _)| Key::Rule(uid.clone())).chain(channels.map(|(id, _)| Key::Channel(id.clone()))).collect();
    inner.dirty.extend(keys);
    drop(inner);
    world.ring();
}

/// How many rules and channels are left to whom. Forgets the installations that no resource names.
fn count(world: &World, metrics: &Metrics) -> BTreeMap<String, [i64; 2]> {
    let mut inner = world.lock();
    let mut left: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    let rules = inner.rules.values().filter_map(|rule| Some((inner.left_to(rule)?, 0)));
    let channels = inner.channels.values().filter_map(|channel| Some((inner.left_to(channel)?, 1)));
    for (other, kind) in rules.chain(channels) {
        left.entry(other.to_owned()).or_default()[kind] += 1;
    }
    for (kind, name) in ["AlertRule", "NotificationChannel"].into_iter().enumerate() {
        metrics.foreign.with_label_values(&[name]).set(left.values().map(|counts| counts[kind]).sum());
    }
    let rules = inner.rules.values().filter_map(|rule| rule.stored.managed_by());
    let channels = inner.channels.values().filter_map(|channel| channel.stored.managed_by());
    let named: BTreeSet<String> = rules.chain(channels).map(str::to_owned).collect();
    inner.others.retain(|name, _| named.contains(name));
    left
}

/// Says it once, and again where the numbers are others.
fn say(left: &BTreeMap<String, [i64; 2]>, said: &BTreeMap<String, [i64; 2]>) {
    for (installation, [rules, channels]) in left.iter().filter(|(name, counts)| said.get(*name) != Some(counts)) {
        tracing::warn!(
            installation,
            rules,
            channels,
            "another installation of Weir manages resources that are watched here too; they are left to it. \
             Give each its own --watch-namespaces; where it is not in use any more, delete its lease"
        );
    }
}
