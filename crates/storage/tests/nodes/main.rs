//! Storage over the network: one node and several, over real sockets and a real log in a directory.

mod conformance;
mod failures;
mod process;
mod proxy;
mod replicas;
mod serving;
mod support;
