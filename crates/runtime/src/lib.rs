//! Process furniture: arguments, logs, the listener, health, metrics, signals. Knows nothing of samples.
//!
//! Architecture invariant: no workspace crate below this one; nothing here depends on what a component does.

pub mod clock;
pub mod component;

pub use component::{Component, Shutdown, ShutdownTrigger};
