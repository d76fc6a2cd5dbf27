//! The alerting component: rules to alert states to notifications.
//!
//! It consumes the log, keeps the windows that its rules look at in memory, evaluates a rule when a sample arrives that it selects or when
//! time alone may change its answer, and tells the channels. States, positions in the log and the notifications that are owed are
//! in one SQLite database.
//!
//! Architecture invariant: a change of an alert's state and the notifications that it owes are one transaction; nothing is sent that
//! is not in the database first, and nothing leaves the outbox but by an answer of the receiver or as a dead letter.

pub mod args;
pub mod error;
pub mod unit;

mod api;
mod component;
mod consume;
mod delivery;
mod engine;
mod evaluate;
mod metrics;
mod needs;
mod reload;
mod rulesets;
mod state;
mod store;
mod text;
mod view;
mod webhook;
mod windows;

#[cfg(test)]
mod tests;

pub use args::Args;
pub use component::{Deps, Started, start};
pub use error::Error;
