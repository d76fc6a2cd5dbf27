//! Process furniture: arguments, logs, the listener, health, metrics, signals. Knows nothing of samples.
//!
//! Architecture invariant: no workspace crate below this one; nothing here depends on what a component does.

pub mod backoff;
pub mod clock;
pub mod component;
pub mod config;
pub mod listener;
pub mod logs;
pub mod metrics;
pub mod routes;
pub mod signals;

pub use backoff::Backoff;
pub use component::{Component, Drained, Shutdown, ShutdownTrigger};
pub use routes::Routes;
