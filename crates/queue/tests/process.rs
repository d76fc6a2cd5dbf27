//! The process `weir-queue`, as programs of others see it: started, written to and read from by kcat, killed, started again.

#[path = "../../runtime/tests/support/process.rs"]
#[allow(dead_code, reason = "shared with the tests of other components, of which each uses a part")]
mod process;
#[path = "../../runtime/tests/support/skips.rs"]
mod skips;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use process::Process;
use skips::file_of;

/// A running `weir-queue`, and the address of its log.
struct Queue {
    process: Process,
    kafka: String,
}

fn start(dir: &Path, token: Option<&Path>) -> Queue {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-queue"));
    command.args(["--kafka", "127.0.0.1:0", "--data"]).arg(dir);
    if let Some(file) = token {
        command.arg("--token-file").arg(file);
    }
    let process = Process::start(&mut command);
    let kafka = process.logged("Kafka protocol is served at ").to_owned();
    Queue { process, kafka }
}

/// Runs kcat with words and input, and gives what it says.
fn run(bin: &Path, queue: &Queue, words: &[&str], input: &str) -> Output {
    let mut command = Command::new(bin);
    command.args(["-b", &queue.kafka]).args(words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
    // One that ends before it reads its input says why.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("ends")
}

fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

const READ: [&str; 9] = ["-C", "-t", "weir", "-o", "beginning", "-e", "-q", "-X", "check.crcs=true"];

#[test]
fn kcat_writes_and_reads_over_a_kill() {
    let Some(bin) = file_of("kcat_writes_and_reads_over_a_kill", "KCAT_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let queue = start(dir.path(), None);
    let listed = ok(run(&bin, &queue, &["-L", "-m", "60"], ""));
    assert!(listed.contains("topic \"weir\" with 4 partitions"), "{listed}");
    let write = ["-P", "-t", "weir", "-p", "1", "-K:", "-H", "a=b"];
    ok(run(&bin, &queue, &write, "k:one\n:two\n"));
    ok(run(&bin, &queue, &[&write[..], &["-X", "enable.idempotence=true"]].concat(), "k:three\n"));
    queue.process.kill();
    let queue = start(dir.path(), None);
    let read = |words: &[&str]| ok(run(&bin, &queue, &[&READ[..], words].concat(), ""));
    assert_eq!(read(&["-p", "1", "-f", "%o %k %s %h\n"]), "0 k one a=b\n1  two a=b\n2 k three a=b\n");
    assert_eq!(read(&["-p", "0"]), "");
    let end = |partition: u32| ok(run(&bin, &queue, &["-m", "60", "-Q", "-t", &format!("weir:{partition}:-1")], ""));
    assert_eq!((end(1), end(0)), ("weir [1] offset 3\n".to_owned(), "weir [0] offset 0\n".to_owned()));
}

#[test]
fn kcat_needs_the_token_where_there_is_one() {
    let Some(bin) = file_of("kcat_needs_the_token_where_there_is_one", "KCAT_BIN") else { return };
    let dir = tempfile::tempdir().expect("directory");
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    let queue = start(&dir.path().join("data"), Some(&token));
    let sasl = |password: &'static str| {
        let plain = ["-X", "security.protocol=sasl_plaintext", "-X", "sasl.mechanisms=PLAIN", "-X"];
        [&plain[..], &["sasl.username=weir", "-X", password]].concat()
    };
    let list = |words: &[&str], seconds: &str| run(&bin, &queue, &[words, &["-L", "-m", seconds]].concat(), "");
    assert!(ok(list(&sasl("sasl.password=s3cret"), "60")).contains("topic \"weir\""));
    // It tries again for as long as it may, where it is refused.
    let refused = list(&sasl("sasl.password=wrong"), "15");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("wrong user or token"), "{refused:?}");
    assert!(!list(&[], "5").status.success());
}

#[test]
fn an_address_that_makes_no_sense_is_refused_with_its_text() {
    let dir = tempfile::tempdir().expect("directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-queue"));
    command.arg("--data").arg(dir.path()).args(["--kafka", "nonsense", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert_eq!(child.wait().expect("ends").code(), Some(1), "{said}");
    assert!(said.contains("cannot listen on nonsense"), "{said}");
}
