//! Reconciles the custom resources of the group `weir.dev`: the only crate that reconciles anything in Kubernetes.
//!
//! It is empty, on purpose and for now: Weir does not run in Kubernetes yet. AlertRule and NotificationChannel
//! documents, with the same YAML as the custom resources will have, are read from a directory by `alerting`.
//! The crate exists so that its place in the dependency graph is fixed: it sees `rules` and `runtime` and nothing
//! else, in particular neither the log nor the engine.
//!
//! Architecture invariant: no other crate depends on a Kubernetes client.
