//! The topology of this test program: `weir run`, which is everything in one process.

use std::path::PathBuf;
use std::process::Command;

use crate::support::weir_bin;
use crate::weir::Launch;

pub(crate) const PROCESSES: [&str; 1] = ["weir"];

/// Nobody asks for one.
pub(crate) const TOKEN: &str = "";

/// Queries of dashboards that find nothing here, by a metric of theirs, with the reason.
pub(crate) const EMPTY_QUERIES: &[(&str, &str)] =
    &[("weir_storage_reader_node_up", "in one process there are no replicas of storage to be asked over the network")];

/// What the process is started with.
pub(crate) struct Layout {
    data: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Layout {
    pub(crate) fn new(launch: Launch<'_>) -> Self {
        Layout { data: launch.data.to_owned(), args: launch.args, env: launch.env }
    }

    /// The process that answers this path.
    pub(crate) fn answers(&self, _: &str) -> &'static str {
        PROCESSES[0]
    }

    pub(crate) fn command(&self, _: &str) -> Command {
        let mut command = Command::new(weir_bin());
        command.args(["run", "--listen", "127.0.0.1:0", "--data"]).arg(&self.data).args(&self.args);
        command.envs(self.env.iter().cloned());
        command
    }
}
