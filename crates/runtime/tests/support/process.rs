//! A component's process, for the tests of all components, which include this file: started, ready, ended. It stands on what every process of
//! Weir does alike, see `runtime::process`.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a process may take to become ready before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

/// A process that is ready; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// What it logged until it was ready.
    pub(crate) log: Vec<String>,
}

impl Process {
    /// Starts it on a port that is free, and waits until its log says that it is ready. Panics with the log where it ends before.
    #[expect(clippy::disallowed_methods, reason = "the end of the patience is a time")]
    pub(crate) fn start(command: &mut Command) -> Process {
        command.args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = sync_channel(1000);
        // Read to its end, so that the process never waits for the pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let mut process = Process { child, url: String::new(), log: Vec::new() };
        let late = Instant::now() + PATIENCE;
        while process.url.is_empty() {
            match lines.recv_timeout(late.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some((_, address)) = line.split_once("ready at http://") {
                        process.url = format!("http://{}", address.trim());
                    }
                    process.log.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => panic!("ended before it was ready: {:#?}", process.log),
                Err(RecvTimeoutError::Timeout) => panic!("not ready within {PATIENCE:?}: {:#?}", process.log),
            }
        }
        process
    }

    /// What a line of the log says after these words, which must be there.
    pub(crate) fn logged(&self, words: &str) -> &str {
        let found = self.log.iter().find_map(|line| Some(line.split_once(words)?.1));
        found.unwrap_or_else(|| panic!("no {words:?} in {:#?}", self.log)).trim()
    }

    /// Ends it as a failure would, without a chance to put anything in order.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// SIGTERM, and the status with which it ends once it has drained.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
        self.child.wait().expect("waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
