//! The commands that end: each prints an answer and gives an exit status.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod docs;
pub(crate) mod queries;
pub(crate) mod query;
pub(crate) mod rules;
pub(crate) mod send;
mod sink;
pub(crate) mod test;
pub(crate) mod tsdb;
pub(crate) mod verify;

use std::io::Write as _;
use std::process::ExitCode;

/// `weir version`.
pub(crate) fn version() -> anyhow::Result<ExitCode> {
    writeln!(crate::output::out(), "weir {}", env!("CARGO_PKG_VERSION"))?;
    Ok(ExitCode::SUCCESS)
}
