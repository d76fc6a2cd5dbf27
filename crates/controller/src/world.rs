//! What the controller knows: the resources that it watches, what alerting says of them, and which of them have something to be told.
//!
//! Objects are kept as the documents that they are, without what the API server adds; ten thousand rules take some tens of megabytes. One
//! lock, held over lookups and never over I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rules::document::NotificationChannel;
use rules::handover::{HandedChannel, HandedRule, RuleState};
use rules::kubernetes::{AlertRuleStatus, ChannelStatus};
use tokio::sync::watch;

/// Installations that wait to be looked for; resources of those beyond are left alone until then.
const NAMED_MAX: usize = 64;

/// Which resource something is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// A rule, by its UID.
    Rule(String),
    /// A channel, by `namespace/name`.
    Channel(String),
}

/// Another installation of Weir, which resources name as the one that manages them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Other {
    /// Its lease is gone, and with it the installation.
    Gone,
    /// It is there, and watches these namespaces; all where there are none.
    Watches(Vec<String>),
}

/// A status that names the installation that writes it.
pub(crate) trait Managed {
    fn managed_by(&self) -> Option<&str>;
}

impl Managed for AlertRuleStatus {
    fn managed_by(&self) -> Option<&str> {
        self.managed_by.as_deref()
    }
}

impl Managed for ChannelStatus {
    fn managed_by(&self) -> Option<&str> {
        self.managed_by.as_deref()
    }
}

/// What identifies a version of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) generation: i64,
}

/// Why a resource is not in use: the reason of its condition, and the words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A resource with what is known of it. `D` is its document, `S` its status.
#[derive(Debug, Clone)]
pub(crate) struct Entry<D, S> {
    pub(crate) identity: Identity,
    pub(crate) verdict: Result<D, Bad>,
    /// Changes with the document or its verdict; how hand-over knows what it sent.
    pub(crate) stamp: u64,
    /// The status as the API server has it, and the version of the object that it is from.
    pub(crate) stored: S,
    pub(crate) version: u64,
    /// When this generation was first seen, and when its status was written last.
    pub(crate) seen_ms: i64,
    pub(crate) written_ms: i64,
    /// Why alerting refused it.
    pub(crate) refused: Option<String>,
    /// The stamp that alerting has accepted.
    pub(crate) accepted: u64,
    /// How the rule is; not for channels.
    pub(crate) state: Option<RuleState>,
}

impl<D, S> Entry<D, S> {
    /// Whether it is in a namespace; `None` is all of them.
    pub(crate) fn is_in(&self, namespace: &Option<String>) -> bool {
        namespace.as_ref().is_none_or(|namespace| *namespace == self.identity.namespace)
    }
}

pub(crate) type Rule = Entry<HandedRule, AlertRuleStatus>;
pub(crate) type Channel = Entry<NotificationChannel, ChannelStatus>;

/// An object as it was watched.
#[derive(Debug, Clone)]
pub(crate) struct Seen<D, S> {
    pub(crate) identity: Identity,
    pub(crate) verdict: Result<D, Bad>,
    pub(crate) stored: S,
    pub(crate) version: u64,
}

/// Values of a Secret by key; `None` for one that does not exist.
pub(crate) type SecretValues = Option<BTreeMap<String, String>>;

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) channels: BTreeMap<String, Channel>,
    /// By namespace and name: those that channels refer to, once they were read.
    pub(crate) secrets: BTreeMap<(String, String), SecretValues>,
    /// Whether all rules, channels and Secrets were read once; before that, what is absent says nothing.
    pub(crate) rules_listed: bool,
    pub(crate) channels_listed: bool,
    pub(crate) secrets_read: bool,
    /// Since when alerting does not answer.
    pub(crate) unreachable_ms: Option<i64>,
    pub(crate) dirty: BTreeSet<Key>,
    /// What this installation is called in the statuses that it writes.
    pub(crate) instance: String,
    /// The others that statuses name, once they were looked for.
    pub(crate) others: BTreeMap<String, Other>,
    /// Those that were named since, and not looked for yet.
    pub(crate) named: BTreeSet<String>,
    stamp: u64,
}

impl Inner {
    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }

    /// Whether what is handed over would be everything.
    pub(crate) fn is_complete(&self) -> bool {
        self.rules_listed && self.channels_listed && self.secrets_read
    }

    /// The other installation to which a resource is left. One that was not looked for yet may be there.
    pub(crate) fn left_to<'a, D, S: Managed>(&self, entry: &'a Entry<D, S>) -> Option<&'a str> {
        let other = entry.stored.managed_by().filter(|other| *other != self.instance)?;
        let is_left = match self.others.get(other) {
            Some(Other::Gone) => false,
            Some(Other::Watches(names)) => names.is_empty() || names.contains(&entry.identity.namespace),
            None => true,
        };
        is_left.then_some(other)
    }

    fn name(&mut self, status: &impl Managed) -> bool {
        let other = status.managed_by().filter(|other| *other != self.instance && !self.others.contains_key(*other));
        other.is_some_and(|other| self.named.len() < NAMED_MAX && self.named.insert(other.to_owned()))
    }

    /// The channel as it is handed over; why not where it cannot be used.
    pub(crate) fn usable(&self, channel: &Channel) -> Result<HandedChannel, Bad> {
        let document = channel.verdict.clone()?;
        let mut values = BTreeMap::new();
        for (path, key) in document.spec.webhook.iter().flat_map(|webhook| webhook.references()) {
            let place = (channel.identity.namespace.clone(), key.name.clone());
            let secret = self.secrets.get(&place).and_then(Option::as_ref);
            let Some(value) = secret.and_then(|values| values.get(&key.key)) else {
                let what = if secret.is_some() {
                    format!("Secret {:?} has no key {:?}", key.name, key.key)
                } else {
                    format!("there is no Secret {:?}", key.name)
                };
                return Err(Bad { reason: "SecretNotFound", message: format!("{path}: {what}") });
            };
            values.insert(key.to_string(), value.clone());
        }
        let handed = HandedChannel { document, secrets: values };
        match rules::handover::channel(&handed, "kubernetes") {
            Ok(_) => Ok(handed),
            Err(faults) => Err(Bad { reason: "InvalidSpec", message: lines(&faults) }),
        }
    }

    fn touch_rules_of(&mut self, namespace: &str, id: &str) {
        let named = |rule: &Rule| {
            let Ok(handed) = &rule.verdict else { return false };
            let wanted = handed.document.spec.channel.as_deref();
            (rule.identity.namespace == namespace || wanted.is_some_and(|w| w.contains('/')))
                && rules::handover::channel_id(&rule.identity.namespace, wanted) == id
        };
        let keys: Vec<Key> =
            self.rules.iter().filter(|(_, r)| named(r)).map(|(uid, _)| Key::Rule(uid.clone())).collect();
        self.dirty.extend(keys);
    }
}

/// The faults of a document, one a line.
pub(crate) fn lines(faults: &[rules::Error]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What is known, and a bell that rings when it changes.
#[derive(Debug)]
pub(crate) struct World {
    inner: Mutex<Inner>,
    bell: watch::Sender<u64>,
}

impl World {
    /// Nothing is known yet. `instance` is what this installation is called.
    pub(crate) fn new(instance: String) -> Self {
        World { inner: Mutex::new(Inner { instance, ..Inner::default() }), bell: watch::Sender::new(0) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ring(&self) {
        self.bell.send_modify(|count| *count += 1);
    }

    /// Hears every change from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    pub(crate) fn rule_seen(&self, seen: Seen<HandedRule, AlertRuleStatus>, now_ms: i64) {
        let mut inner = self.lock();
        let stamp = inner.next_stamp();
        let uid = seen.identity.uid.clone();
        let named = inner.name(&seen.stored);
        let Inner { rules, instance, .. } = &mut *inner;
        let changed = place(rules.entry(uid.clone()), seen, instance, stamp, now_ms);
        inner.dirty.insert(Key::Rule(uid));
        drop(inner);
        if changed || named {
            self.ring();
        }
    }

    pub(crate) fn channel_seen(&self, seen: Seen<NotificationChannel, ChannelStatus>, now_ms: i64) {
        let mut inner = self.lock();
        let stamp = inner.next_stamp();
        let (namespace, id) =
            (seen.identity.namespace.clone(), format!("{}/{}", seen.identity.namespace, seen.identity.name));
        let named = inner.name(&seen.stored);
        let Inner { channels, instance, .. } = &mut *inner;
        let changed = place(channels.entry(id.clone()), seen, instance, stamp, now_ms);
        if changed {
            inner.touch_rules_of(&namespace, &id);
        }
        inner.dirty.insert(Key::Channel(id));
        drop(inner);
        if changed || named {
            self.ring();
        }
    }

    pub(crate) fn rule_gone(&self, uid: &str) {
        if self.lock().rules.remove(uid).is_some() {
            self.ring();
        }
    }

    pub(crate) fn channel_gone(&self, id: &str) {
        let mut inner = self.lock();
        let Some(gone) = inner.channels.remove(id) else { return };
        inner.touch_rules_of(&gone.identity.namespace, id);
        drop(inner);
        self.ring();
    }

    /// The value of a Secret; channels that use it are handed over again where it changed.
    pub(crate) fn secret_read(&self, place: (String, String), values: SecretValues) {
        let mut inner = self.lock();
        if inner.secrets.get(&place) == Some(&values) {
            return;
        }
        let uses = |channel: &Channel| {
            channel.identity.namespace == place.0
                && channel.verdict.as_ref().is_ok_and(|d| {
                    d.spec.webhook.iter().flat_map(|w| w.references()).any(|(_, key)| key.name == place.1)
                })
        };
        let ids: Vec<String> = inner.channels.iter().filter(|(_, c)| uses(c)).map(|(id, _)| id.clone()).collect();
        inner.secrets.insert(place.clone(), values);
        for id in ids {
            let stamp = inner.next_stamp();
            if let Some(channel) = inner.channels.get_mut(&id) {
                channel.stamp = stamp;
            }
            inner.touch_rules_of(&place.0, &id);
            inner.dirty.insert(Key::Channel(id));
        }
        drop(inner);
        self.ring();
    }

    /// Alerting answered, or not.
    pub(crate) fn reachable(&self, answered: bool, now_ms: i64) {
        let mut inner = self.lock();
        if answered == inner.unreachable_ms.is_none() {
            return;
        }
        inner.unreachable_ms = (!answered).then_some(now_ms);
        let keys: Vec<Key> = inner.rules.keys().cloned().map(Key::Rule).collect();
        inner.dirty.extend(keys);
        drop(inner);
        self.ring();
    }
}

/// Puts an object into its place; whether its document or its verdict is another, or another installation than this `instance` took it or gave it up.
fn place<D: PartialEq, S: Managed>(
    entry: std::collections::btree_map::Entry<'_, String, Entry<D, S>>,
    seen: Seen<D, S>,
    instance: &str,
    stamp: u64,
    now_ms: i64,
) -> bool {
    use std::collections::btree_map::Entry as Slot;
    match entry {
        Slot::Vacant(slot) => {
            slot.insert(Entry {
                identity: seen.identity,
                verdict: seen.verdict,
                stamp,
                stored: seen.stored,
                version: seen.version,
                seen_ms: now_ms,
                written_ms: now_ms,
                refused: None,
                accepted: 0,
                state: None,
            });
            true
        }
        Slot::Occupied(mut slot) => {
            let known = slot.get_mut();
            // An event of before our own last write; the one of that write follows.
            let is_old = known.identity.uid == seen.identity.uid && seen.version < known.version;
            if is_old && seen.identity.generation <= known.identity.generation {
                return false;
            }
            let changed = known.verdict != seen.verdict || known.identity != seen.identity;
            if changed {
                (known.stamp, known.seen_ms, known.refused) = (stamp, now_ms, None);
            }
            // That decides whether it is handed over; a claim of one's own changes nothing.
            let other = |status: &S| status.managed_by().filter(|by| *by != instance).map(str::to_owned);
            let moved = !is_old && other(&known.stored) != other(&seen.stored);
            if !is_old {
                (known.stored, known.version) = (seen.stored, seen.version);
            }
            (known.identity, known.verdict) = (seen.identity, seen.verdict);
            changed || moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(uid: &str, managed_by: Option<&str>, version: u64) -> Seen<HandedRule, AlertRuleStatus> {
        let identity =
            Identity { uid: uid.to_owned(), namespace: "shop".to_owned(), name: uid.to_owned(), generation: 1 };
        let stored = AlertRuleStatus { managed_by: managed_by.map(str::to_owned), ..AlertRuleStatus::default() };
        let verdict = Err(Bad { reason: "Malformed", message: String::new() });
        Seen { identity, verdict, stored, version }
    }

    #[test]
    fn a_rule_that_another_installation_takes_or_gives_up_rings_the_bell() {
        let world = World::new("weir/one".to_owned());
        // The other one is known already, so that it is named is no reason.
        world.rule_seen(seen("a", Some("weir/two"), 1), 0);
        world.rule_seen(seen("b", None, 2), 0);
        let mut bell = world.listen();
        world.rule_seen(seen("b", None, 3), 0);
        assert!(!bell.has_changed().expect("it rings"), "nothing is new");
        world.rule_seen(seen("b", Some("weir/two"), 4), 0);
        assert!(bell.has_changed().expect("it rings"), "it was taken");
        bell.borrow_and_update();
        world.rule_seen(seen("b", None, 1), 0);
        assert!(!bell.has_changed().expect("it rings"), "of before that");
        world.rule_seen(seen("b", None, 5), 0);
        assert!(bell.has_changed().expect("it rings"), "it was given up");
        bell.borrow_and_update();
        world.rule_seen(seen("b", Some("weir/one"), 6), 0);
        assert!(!bell.has_changed().expect("it rings"), "this one took it itself");
    }
}
