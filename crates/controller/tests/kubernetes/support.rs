//! What the tests and benches share: the cluster, a controller in it, an alerting that is played, and the real processes.

// By their paths, since the benches include this file by its own.
#[path = "support/cluster.rs"]
pub(crate) mod cluster;
#[path = "support/double.rs"]
pub(crate) mod double;
#[path = "support/followed.rs"]
pub(crate) mod followed;
#[path = "support/processes.rs"]
pub(crate) mod processes;
#[path = "../../../runtime/tests/support/skips.rs"]
mod skips;

use std::time::Duration;

use serde_json::{Value, json};

/// How long anything may take before the test gives up. Nothing here is measured; on a machine that is busy it is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// The token between components.
pub(crate) const TOKEN: &str = "t0ken";

/// Asks again until the answer is there: for servers that cannot tell when something becomes so. `ask` says what it saw instead.
pub(crate) async fn until(mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let mut seen = String::new();
    let asking = async {
        while let Err(instead) = ask().await {
            seen = instead;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asking).await;
    assert!(in_time.is_ok(), "not within {PATIENCE:?}: {seen}");
}

pub(crate) fn rule(name: &str, expr: &str) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "AlertRule", "metadata": {"name": name, "namespace": "shop"}, "spec": {"expr": expr}})
}

pub(crate) fn channel(name: &str, webhook: Value) -> Value {
    json!({"apiVersion": "weir.dev/v1alpha1", "kind": "NotificationChannel", "metadata": {"name": name, "namespace": "shop"}, "spec": {"webhook": webhook}})
}
