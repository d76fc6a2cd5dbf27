//! Storage over the network: one node and several, over real sockets and a real log in a directory.

#[path = "../../../runtime/tests/support/process.rs"]
#[allow(dead_code, reason = "shared with the tests of other components, of which each uses a part")]
mod child;
mod conformance;
mod engine;
mod failures;
mod objects;
mod outlines;
mod process;
mod proxy;
mod replicas;
mod serving;
mod support;
#[path = "../../../tsdb/tests/walks/mod.rs"]
mod walks;
