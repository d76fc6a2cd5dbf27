//! What tests share: patience, ports, programs of others, and the protocols as a client speaks them.

#[path = "../../../runtime/tests/support/port.rs"]
mod port;
#[path = "../../../runtime/tests/support/s3.rs"]
pub(crate) mod s3;
#[path = "../../../runtime/tests/support/sink.rs"]
mod sink;
#[path = "../../../runtime/tests/support/skips.rs"]
pub(crate) mod skips;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use model::{Labels, Sample};

pub(crate) use port::free_port;
pub(crate) use sink::Sink;
pub(crate) use skips::file_of as program;

/// How long anything may take before the test gives up. Nothing here is measured; on a machine that is busy it is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::ring::default_provider().install_default().expect("first in this process");
    });
}

pub(crate) fn weir_bin() -> PathBuf {
    std::env::var_os("WEIR_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_weir")), PathBuf::from)
}

/// A path of the repository.
pub(crate) fn at(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::new(pairs).expect("valid labels")
}

pub(crate) fn encode_form(form: &[(&str, &str)]) -> String {
    form.iter().map(|(n, v)| format!("{}={}", percent(n), percent(v))).collect::<Vec<_>>().join("&")
}

pub(crate) fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

pub(crate) async fn remote_write(
    http: &reqwest::Client,
    address: &str,
    series: &[(Labels, Vec<Sample>)],
) -> Result<u16, reqwest::Error> {
    let body = snap::raw::Encoder::new().compress_vec(&write_request(series)).expect("compresses");
    let request = http
        .post(format!("http://{address}/api/v1/write"))
        .header("content-type", "application/x-protobuf")
        .header("content-encoding", "snappy")
        .header("x-prometheus-remote-write-version", "0.1.0");
    let answer = request.body(body).send().await?;
    let status = answer.status().as_u16();
    answer.bytes().await?;
    Ok(status)
}

/// A `prometheus.WriteRequest`, written out by hand so that the decoder under test is not its own oracle.
pub(crate) fn write_request(series: &[(Labels, Vec<Sample>)]) -> Vec<u8> {
    let mut request = Vec::new();
    for (labels, samples) in series {
        let mut one = Vec::new();
        for (name, value) in labels.iter() {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut one, 1, &label);
        }
        for sample in samples {
            let mut message = vec![0x09];
            message.extend_from_slice(&sample.v.to_le_bytes());
            message.push(0x10);
            varint(&mut message, sample.t as u64);
            field(&mut one, 2, &message);
        }
        field(&mut request, 1, &one);
    }
    request
}

pub(crate) fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The output of a command that must succeed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Asks again until the answer is there: for servers that cannot tell when something becomes so. `ask` says what it saw instead.
pub(crate) async fn until(mut ask: impl AsyncFnMut() -> Result<(), String>) {
    let mut seen = String::new();
    let asking = async {
        while let Err(instead) = ask().await {
            seen = instead;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asking).await;
    assert!(in_time.is_ok(), "not within {PATIENCE:?}: {seen}");
}
