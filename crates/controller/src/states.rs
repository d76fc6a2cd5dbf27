//! Asks alerting how the rules are, again and again: each call waits there for a change.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use rules::handover::States;
use runtime::Backoff;

use crate::error::Error;
use crate::handover::{Alerting, Sent};
use crate::world::{Key, World};

/// How long alerting waits for a change before it answers without one.
const WAIT: Duration = Duration::from_secs(20);
/// How long an answer may take beyond that.
const GRACE: Duration = Duration::from_secs(10);

/// Follows the states for as long as it is polled.
pub(crate) async fn run(alerting: &Alerting, world: &World, sent: &Sent) {
    let mut backoff =
        Backoff::new(Duration::from_millis(250), Duration::from_secs(5), runtime::clock::now_ms().unsigned_abs());
    let (mut epoch, mut after) = (String::new(), 0);
    loop {
        let accepted = sent.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match ask(alerting, &epoch, after).await {
            Ok(states) => {
                backoff.reset();
                world.reachable(true, runtime::clock::now_ms());
                (epoch, after) = (states.epoch.clone(), states.after);
                // What had been accepted before the question must be there in the answer.
                let lost = accepted.is_some_and(|(epoch, generation)| {
                    let held = &states.held;
                    held.epoch != epoch || held.generation < generation || !held.has_secrets
                });
                if lost {
                    sent.all.store(true, Ordering::Relaxed);
                    sent.again.notify_one();
                }
                take(world, states);
            }
            Err(error) => {
                if backoff.attempts() == 0 {
                    tracing::warn!(%error, "alerting does not tell the states of rules; trying again");
                }
                world.reachable(false, runtime::clock::now_ms());
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

async fn ask(alerting: &Alerting, epoch: &str, after: u64) -> Result<States, Error> {
    let failed = |e: reqwest::Error| Error::Alerting(runtime::error::chain(&e));
    let url = format!("{}/states?epoch={epoch}&after={after}&wait_ms={}", alerting.url, WAIT.as_millis());
    let answer = alerting.request(Method::GET, &url).timeout(WAIT + GRACE).send().await.map_err(failed)?;
    if !answer.status().is_success() {
        let status = answer.status();
        let text: String = answer.text().await.unwrap_or_default().chars().take(200).collect();
        return Err(Error::Alerting(format!("{status}: {}", text.trim())));
    }
    answer.json().await.map_err(failed)
}

fn take(world: &World, states: States) {
    if states.states.is_empty() {
        return;
    }
    let mut inner = world.lock();
    for state in states.states {
        let Some(rule) = inner.rules.get_mut(&state.uid) else { continue };
        let uid = state.uid.clone();
        rule.state = Some(state);
        inner.dirty.insert(Key::Rule(uid));
    }
    drop(inner);
    world.ring();
}
