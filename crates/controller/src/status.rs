//! Decides which statuses are written when: what is urgent first, each class at its rate, and every resource once however often it changed.
//!
//! The first answer to a new generation has a rate of its own, so that applying ten thousand rules takes a minute and not ten; everything
//! else shares a low one, so that a storm of alerts is not a storm of writes. A status is computed when its turn comes, not when it changed.
//! What that gives is measured by `benches/ten_thousand.rs` and `benches/latency.rs`; the figures are in ARCHITECTURE.md.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use runtime::Backoff;

use crate::metrics::Metrics;
use crate::wanted::{self, Class};
use crate::world::{Key, World};
use crate::write::{Outcome, Writer};

/// First answers a second.
const READY_PER_SECOND: f64 = 200.0;
/// Other writes a second.
const OTHERS_PER_SECOND: f64 = 20.0;
/// Writes that may be saved up: a quarter of a second of first answers, so that they come in a steady flow.
const BURST: f64 = 50.0;
/// Writes at the same time.
const PARALLEL: usize = 16;
/// How often all resources are looked at for what only time makes due.
const SCAN_EVERY_MS: i64 = 10_000;
/// How often the rates are looked at while something waits.
const TICK: Duration = Duration::from_millis(50);

/// How many writes may be made now.
struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    filled_ms: i64,
}

impl Bucket {
    fn new(per_second: f64, most: f64, now_ms: i64) -> Self {
        Bucket { per_second, most, tokens: most, filled_ms: now_ms }
    }

    /// Takes one for each of `wanted`, as far as there are; a clock that goes back gives none.
    fn take(&mut self, wanted: usize, now_ms: i64) -> usize {
        let passed = (now_ms - self.filled_ms).max(0) as f64 / 1000.0;
        self.filled_ms = now_ms;
        self.tokens = (self.tokens + passed * self.per_second).min(self.most);
        let taken = (self.tokens as usize).min(wanted);
        self.tokens -= taken as f64;
        taken
    }
}

/// What waits, by class.
#[derive(Default)]
struct Queues {
    ready: BTreeSet<Key>,
    transition: BTreeSet<Key>,
    refresh: BTreeSet<Key>,
}

impl Queues {
    fn push(&mut self, class: Class, key: Key) {
        match class {
            Class::Ready => drop((self.transition.remove(&key), self.refresh.remove(&key), self.ready.insert(key))),
            Class::Transition if !self.ready.contains(&key) => {
                self.refresh.remove(&key);
                self.transition.insert(key);
            }
            Class::Refresh if !self.ready.contains(&key) && !self.transition.contains(&key) => {
                self.refresh.insert(key);
            }
            Class::Transition | Class::Refresh => {}
        }
    }

    fn len(&self) -> usize {
        self.ready.len() + self.transition.len() + self.refresh.len()
    }

    /// Takes what may be written now, transitions before refreshes.
    fn take(&mut self, ready: &mut Bucket, others: &mut Bucket, now_ms: i64) -> Vec<(Class, Key)> {
        let mut out = Vec::new();
        for _ in 0..ready.take(self.ready.len(), now_ms) {
            out.extend(self.ready.pop_first().map(|key| (Class::Ready, key)));
        }
        for _ in 0..others.take(self.transition.len() + self.refresh.len(), now_ms) {
            let transition = self.transition.pop_first().map(|key| (Class::Transition, key));
            out.extend(transition.or_else(|| self.refresh.pop_first().map(|key| (Class::Refresh, key))));
        }
        out
    }

    fn tell(&self, metrics: &Metrics) {
        for (class, queue) in
            [(Class::Ready, &self.ready), (Class::Transition, &self.transition), (Class::Refresh, &self.refresh)]
        {
            metrics.backlog.with_label_values(&[class.name()]).set(queue.len() as i64);
        }
    }
}

/// Writes statuses for as long as it is polled.
pub(crate) async fn run(world: &World, writer: &Writer, metrics: &Metrics) {
    let mut bell = world.listen();
    let start_ms = runtime::clock::now_ms();
    let mut ready = Bucket::new(READY_PER_SECOND, BURST, start_ms);
    let mut others = Bucket::new(OTHERS_PER_SECOND, OTHERS_PER_SECOND, start_ms);
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10), start_ms.unsigned_abs());
    let (mut queues, mut scanned_ms) = (Queues::default(), i64::MIN);
    loop {
        bell.borrow_and_update();
        let now_ms = runtime::clock::now_ms();
        let scan = now_ms >= scanned_ms.saturating_add(SCAN_EVERY_MS);
        if scan {
            scanned_ms = now_ms;
        }
        sort(world, scan, now_ms, &mut queues);
        queues.tell(metrics);
        let jobs = queues.take(&mut ready, &mut others, now_ms);
        let mut outcomes = futures_util::stream::iter(jobs)
            .map(|(class, key)| async move { (writer.write(world, &key, now_ms).await, class, key) })
            .buffer_unordered(PARALLEL);
        let mut failed = false;
        while let Some((outcome, class, key)) = outcomes.next().await {
            metrics.writes.with_label_values(&[class.name(), outcome.name()]).inc();
            if outcome == Outcome::Failed {
                failed = true;
                queues.push(class, key);
            }
        }
        if failed {
            tokio::time::sleep(backoff.pause()).await;
        } else if queues.len() > 0 {
            backoff.reset();
            tokio::time::sleep(TICK).await;
        } else {
            let next = Duration::from_millis(SCAN_EVERY_MS.unsigned_abs());
            // Silence is as good as a change: the scan is due.
            let _ = tokio::time::timeout(next, bell.changed()).await;
        }
    }
}

/// Sorts what changed, or all there is, into the queues.
fn sort(world: &World, all: bool, now_ms: i64, queues: &mut Queues) {
    let mut inner = world.lock();
    let mut keys = std::mem::take(&mut inner.dirty);
    if all {
        keys.extend(inner.rules.keys().cloned().map(Key::Rule));
        keys.extend(inner.channels.keys().cloned().map(Key::Channel));
    }
    for key in keys {
        let class = match &key {
            Key::Rule(uid) => inner.rules.get(uid).and_then(|rule| {
                let wanted = wanted::rule(&inner, rule, now_ms)?;
                wanted::rule_class(&rule.stored, &wanted, rule.written_ms, now_ms)
            }),
            Key::Channel(id) => inner
                .channels
                .get(id)
                .and_then(|channel| wanted::channel_class(&channel.stored, &wanted::channel(&inner, channel, now_ms)?)),
        };
        if let Some(class) = class {
            queues.push(class, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        Key::Rule(n.to_string())
    }

    #[test]
    fn each_class_keeps_its_rate_and_transitions_go_before_refreshes() {
        let mut queues = Queues::default();
        for n in 0..1000 {
            queues.push(Class::Ready, key(n));
            queues.push(Class::Refresh, key(2000 + n));
        }
        for n in 0..15 {
            queues.push(Class::Transition, key(9000 + n));
        }
        let (mut ready, mut others) = (Bucket::new(200.0, 50.0, 0), Bucket::new(20.0, 20.0, 0));
        let count = |taken: &[(Class, Key)], class| taken.iter().filter(|(c, _)| *c == class).count();
        let first = queues.take(&mut ready, &mut others, 0);
        let counts = [Class::Ready, Class::Transition, Class::Refresh].map(|class| count(&first, class));
        assert_eq!(counts, [50, 15, 5]);
        let mut taken = Vec::new();
        for tick in 1..=20 {
            taken.extend(queues.take(&mut ready, &mut others, tick * 50));
        }
        assert_eq!([count(&taken, Class::Ready), count(&taken, Class::Refresh)], [200, 20]);
        assert_eq!(queues.take(&mut ready, &mut others, 500), [], "a clock that goes back gives nothing");
    }

    #[test]
    fn a_resource_waits_once_and_in_its_most_urgent_class() {
        let mut queues = Queues::default();
        for class in [Class::Refresh, Class::Transition, Class::Refresh, Class::Ready, Class::Transition] {
            queues.push(class, key(1));
        }
        assert_eq!((queues.len(), queues.ready.len()), (1, 1));
    }
}
