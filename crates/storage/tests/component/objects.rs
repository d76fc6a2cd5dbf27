//! Blocks in object storage, on a real S3 server: nothing is lost when the local disk is, when requests fail, and when answers do.

mod cold;
mod faults;
mod lifetime;
mod owner;
mod proxy;
mod support;
