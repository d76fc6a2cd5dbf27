//! `weir tsdb`: what storage keeps, while no Weir runs on it. What is found and done is in [`tsdb`] and [`storage`]; here it is told.

mod blocks;
mod books;
mod progress;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::cli::{Data, RestoreArgs, SnapshotArgs, Tsdb};
use crate::client::Client;
use crate::output::{out, rfc3339};

/// Every command but the one that talks to a running Weir.
pub(crate) fn offline(command: Tsdb) -> anyhow::Result<ExitCode> {
    match command {
        Tsdb::Verify(args) => books::verify(&storage_of(&args)?),
        Tsdb::Inspect(args) => books::inspect(&storage_of(&args.data)?, &args),
        Tsdb::Repair(args) => books::repair(&storage_of(&args.data)?, &args),
        Tsdb::ImportPrometheus(args) => blocks::import(&args),
        Tsdb::ExportPrometheus(args) => blocks::export(&storage_of(&args.data)?, &args),
        Tsdb::Restore(args) => restore(&args),
        Tsdb::Snapshot(_) => bail!("a snapshot is made by a running Weir"),
    }
}

/// `weir tsdb snapshot`.
pub(crate) async fn snapshot(args: &SnapshotArgs) -> anyhow::Result<ExitCode> {
    let token = args.token_file.as_deref().map(runtime::Token::read).transpose()?;
    let client = Client::new(&args.server.url)?.with_token(token);
    let form = [("skip_head", if args.skip_head { "true" } else { "false" })];
    let answer = client.call("/api/v1/admin/tsdb/snapshot", &form).await.map_err(|error| {
        let hint = error.to_string().contains("admin APIs disabled").then_some("; start Weir with --enable-admin-api");
        anyhow::anyhow!("{error}{}", hint.unwrap_or_default())
    })?;
    let name = answer["data"]["name"].as_str().context("the answer is not one of Prometheus' API")?;
    writeln!(out(), "{name}")?;
    Ok(ExitCode::SUCCESS)
}

/// `weir tsdb restore`.
fn restore(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    storage::snapshot::restore(&args.snapshot, &args.data)?;
    writeln!(out(), "restored {} to {}", args.snapshot.display(), storage_in(&args.data).display())?;
    Ok(ExitCode::SUCCESS)
}

fn storage_in(data: &Path) -> PathBuf {
    data.join("storage")
}

/// The storage in a data directory that has one.
fn storage_of(args: &Data) -> anyhow::Result<PathBuf> {
    let dir = storage_in(&args.data);
    if !dir.is_dir() {
        bail!("{} is not there: --data is the data directory of a Weir, or a snapshot", dir.display());
    }
    Ok(dir)
}

/// A time of a sample.
fn time(ms: i64) -> String {
    rfc3339(ms as f64 / 1e3)
}

/// Writes what went wrong to standard error, and the exit status that follows from it.
fn problems<'a>(all: impl IntoIterator<Item = &'a String>, further: u64) -> anyhow::Result<ExitCode> {
    let mut error = std::io::stderr().lock();
    let mut any = false;
    for one in all {
        writeln!(error, "{one}")?;
        any = true;
    }
    if further > 0 {
        writeln!(error, "and {further} more")?;
    }
    Ok(if any { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Serialized, with line breaks.
fn write_json(value: &Value) -> anyhow::Result<()> {
    writeln!(out(), "{value:#}")?;
    Ok(())
}
