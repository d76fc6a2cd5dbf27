//! Reconciles the custom resources of the group `weir.dev`: the only crate that reconciles anything in Kubernetes.
//!
//! It watches AlertRules and NotificationChannels, checks them, hands them over to alerting, and writes back how they are. Every replica
//! watches and answers admission; the one that holds the lease hands over and writes. It keeps nothing: what it knows is in the API server
//! and in alerting, so a new leader begins by handing everything over under an epoch of its own.
//!
//! Architecture invariant: no other crate depends on a Kubernetes client; this one sees `rules` and `runtime` and nothing else of the
//! workspace, in particular neither the log nor the engine.

pub mod admission;
pub mod args;
pub mod certificate;
pub mod crds;
pub mod error;

mod component;
mod handover;
mod lease;
mod metrics;
mod others;
mod secrets;
mod states;
mod status;
mod tls;
mod wanted;
mod watch;
mod webhook;
mod world;
mod write;

pub use args::Args;
pub use component::{Deps, Started, start};
pub use error::Error;
