//! Waiting for what has no event of its own, for the tests of all components, which include this file.

use std::time::Duration;

/// How long it may take before the test gives up. Nothing here is measured; on a machine that is busy it is slow.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until something holds that has no event of its own.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not {what}"));
}
