//! Process furniture: arguments, logs, the listener, health, metrics and where they are sent, the token between components, signals.
//! Knows nothing of what a component does with samples.
//!
//! Architecture invariant: no workspace crate below this one; nothing here depends on what a component does.

pub mod backoff;
pub mod clock;
pub mod component;
pub mod config;
pub mod error;
pub mod files;
pub mod form;
pub mod listener;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod priority;
pub mod process;
pub mod routes;
pub mod self_monitoring;
pub mod signals;
pub mod stages;
pub mod token;
mod unread;

pub use backoff::Backoff;
pub use component::{Component, Drained, Ended, Shutdown, ShutdownTrigger};
pub use error::Error;
pub use form::{Form, InvalidForm};
pub use routes::{Routes, options};
pub use stages::Stages;
pub use token::Token;
