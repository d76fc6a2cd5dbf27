//! How the status of a rule changes, as whoever watches it sees.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;
use tokio::sync::watch;

use super::cluster::Cluster;
use super::{PATIENCE, rule};

/// The status of a rule of the namespace shop, as it is watched.
pub(crate) struct Followed {
    pub(crate) newest: watch::Receiver<Value>,
    /// Every state that it had, each once in a row.
    pub(crate) states: Arc<Mutex<Vec<String>>>,
}

impl Followed {
    pub(crate) fn new(cluster: &Cluster, name: &str) -> Self {
        let api = cluster.api(&rule(name, ""));
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (sender, newest) = watch::channel(Value::Null);
        let states: Arc<Mutex<Vec<String>>> = Arc::default();
        let written = states.clone();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            let mut objects = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
            while let Some(object) = objects.next().await {
                let Ok(DynamicObject { data, .. }) = object else { continue };
                let state = data["status"]["state"].as_str().unwrap_or_default().to_owned();
                let mut states = written.lock().expect("unpoisoned");
                if states.last() != Some(&state) {
                    states.push(state);
                }
                drop(states);
                sender.send_replace(data["status"].clone());
            }
        });
        Followed { newest, states }
    }

    pub(crate) async fn wait(&mut self, what: &str, is: impl Fn(&Value) -> bool) {
        let seen = tokio::time::timeout(PATIENCE, self.newest.wait_for(|status| is(status))).await.map(drop);
        assert!(seen.is_ok(), "not {what}: {}", *self.newest.borrow());
    }

    pub(crate) async fn fires(&mut self, series: usize) {
        self.wait(&format!("firing with {series}"), |s| s["state"] == "Firing" && s["firing"] == series).await;
    }
}
