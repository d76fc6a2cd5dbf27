//! The shape that every component has, and how it is told to stop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use axum::Router;
use tokio::sync::watch;

/// A started component: its routes, and a handle that resolves once it has drained.
///
/// Each component crate has `pub async fn start(args: Args, deps: Deps, registry: &prometheus::Registry,
/// shutdown: Shutdown) -> Result<Started, Error>`, which returns once the component is ready; `Started` holds
/// this and what the component offers to others in process.
pub struct Component {
    /// The component's name, as in `job="weir/<name>"`.
    pub name: &'static str,
    /// Its HTTP routes, to be merged with those of others on one port, or served alone.
    pub router: Router,
    /// Resolves once everything the component holds is safe on disk and its tasks have ended: with an error
    /// if it failed, at once and unasked if it cannot go on.
    pub drained: Drained,
}

/// What a component, or another part of a process, has to say when it ends.
pub type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Resolves when a component has ended.
pub type Drained = Pin<Box<dyn Future<Output = Ended> + Send>>;

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Asks a component to stop. Dropping it asks too.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

/// Resolves when a component is asked to stop; cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A trigger and what it triggers.
    pub fn new() -> (ShutdownTrigger, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (ShutdownTrigger(sender), Shutdown(receiver))
    }

    /// Resolves once it is asked. Cancel-safe.
    pub async fn asked(&mut self) {
        // An error means that the trigger was dropped, which asks too.
        let _ = self.0.wait_for(|asked| *asked).await;
    }

    /// Whether it was asked.
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl ShutdownTrigger {
    /// Asks.
    pub fn ask(&self) {
        self.0.send_replace(true);
    }
}
