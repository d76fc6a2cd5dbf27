//! One process of Weir: started, watched until it is ready, ended.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;

use crate::support::{PATIENCE, install_tls, until};

/// A running process, killed when it is dropped.
pub(crate) struct Process {
    name: &'static str,
    pub(crate) child: Child,
    /// `127.0.0.1:PORT`
    pub(crate) address: String,
}

impl Process {
    /// Starts it and waits for its address.
    pub(crate) fn spawn(name: &'static str, command: &mut Command) -> Process {
        install_tls();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (address, listening) = sync_channel(1);
        // Both pipes are drained to the end, or the process would block on a full one; stderr is shown when a test fails.
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, rest)) = line.split_once("http://") {
                    let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(rest.len());
                    let _ = address.try_send(rest[..end].to_owned());
                }
            }
        });
        let stderr = child.stderr.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                eprintln!("{name}: {line}");
            }
        });
        let address = listening.recv_timeout(PATIENCE);
        let address = address.unwrap_or_else(|e| panic!("{name} prints its address on standard output: {e}"));
        Process { name, child, address }
    }

    /// Waits for `/ready`. The server answers 503 until then, so this asks again; the process ending is a failure.
    pub(crate) async fn ready(&mut self, http: &reqwest::Client) {
        let url = format!("http://{}/ready", self.address);
        until(async || {
            if let Some(status) = self.child.try_wait().expect("child") {
                panic!("{} ended while starting: {status}", self.name);
            }
            match http.get(&url).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{}: {other:?}", self.name)),
            }
        })
        .await;
    }

    /// Sends `kill -9` and does not wait, so that several can be ended at one moment; the drop waits.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
    }

    /// SIGTERM, and what a service manager sees of it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let done = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill runs");
        assert!(done.success());
        self.child.wait().expect("waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
