//! The router, asked as a client would and compared byte by byte.
//!
//! What is expected of `/api/v1` was taken from Prometheus 3.16, whose answers to the same requests it is.

mod api;
mod cached;
mod cardinality;
mod compression;
mod explain;
mod federate;
mod grafana;
mod limits;
mod page;
mod presentation;
mod remote_read;
mod running;
mod samples;
mod streams;
mod support;
