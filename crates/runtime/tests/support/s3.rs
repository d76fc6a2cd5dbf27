//! A real S3 server, for the tests of all components, which include this file. `S3_BIN` names MinIO.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Weak};
use std::time::{Duration, Instant};

use super::port::free_port;

/// How long the server may take to answer before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of the only bucket.
pub(crate) const BUCKET: &str = "weir-test";
pub(crate) const KEY: &str = "weir-test";
pub(crate) const SECRET: &str = "weir-test-secret";

/// A server with one bucket; killed when the last one who has it drops it.
pub(crate) struct S3 {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    _dir: tempfile::TempDir,
}

impl S3 {
    /// The server that runs, or a new one. Tests of one process share it, each below a prefix of its own.
    pub(crate) fn shared(bin: PathBuf) -> std::sync::Arc<S3> {
        static RUNNING: Mutex<Weak<S3>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let started = std::sync::Arc::new(S3::start(bin));
            *running = std::sync::Arc::downgrade(&started);
            started
        })
    }

    #[expect(clippy::disallowed_methods, reason = "the end of the patience is a time")]
    fn start(bin: PathBuf) -> S3 {
        let dir = tempfile::tempdir().expect("directory");
        // A folder of the server's is a bucket.
        std::fs::create_dir_all(dir.path().join(BUCKET)).expect("made");
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(&bin);
        command.args(["server", "--quiet", "--address", &address]).arg(dir.path());
        command.env("MINIO_ROOT_USER", KEY).env("MINIO_ROOT_PASSWORD", SECRET);
        command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", bin.display()));
        let mut server = S3 { child, url: format!("http://{address}"), _dir: dir };
        let late = Instant::now() + PATIENCE;
        while !is_ready(&address) {
            assert!(server.child.try_wait().expect("asked").is_none(), "the S3 server ended");
            assert!(Instant::now() < late, "the S3 server is not ready");
            std::thread::yield_now();
        }
        server
    }
}

/// Whether the server says that it takes writes.
fn is_ready(address: &str) -> bool {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::net::TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    let asked = write!(stream, "GET /minio/health/cluster HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200 ")
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
