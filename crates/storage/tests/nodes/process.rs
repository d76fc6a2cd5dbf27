//! The process `weir-storage`, twice: each reads its share of a log over the Kafka protocol, one is killed and comes back.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use model::Sample;
use runtime::Token;
use storage::Reader;
use storage::reader::{Args, connect};

use crate::child::Process;
use crate::support::{Bed, Samples, install_crypto, select, series};

fn start(data: &Path, log: SocketAddr, token: &Path, number: u32) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-storage"));
    command.args(["--retention=off", "--storage-replicas=2"]);
    command.arg(format!("--storage-replica={number}")).arg(format!("--queue-address={log}"));
    command.arg("--data").arg(data.join(number.to_string())).arg("--token-file").arg(token);
    Process::start(&mut command)
}

async fn fill(bed: &Bed, all: &mut Samples, t: i64) {
    for n in 0..30 {
        bed.write(&series(n), &[Sample { t, v: n as f64 }]).await;
        all.entry(series(n)).or_default().push((t, (n as f64).to_bits()));
    }
}

fn reader(nodes: [&Process; 2], token: &Path) -> Arc<dyn Reader> {
    let args = Args { storage_urls: nodes.map(|node| node.url.clone()).to_vec(), storage_copies: 1 };
    let token = Token::read(token).expect("a token");
    connect(&args, Some(token), &prometheus::Registry::new()).expect("addresses")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_share_a_log_and_one_that_is_killed_comes_back() {
    install_crypto();
    let data = tempfile::tempdir().expect("directory");
    let token = data.path().join("token");
    std::fs::write(&token, "secret\n").expect("written");
    let bed = Bed::served(&token).await;
    let log = bed.kafka.expect("served");
    let mut all = Samples::new();
    fill(&bed, &mut all, 1).await;
    let first = start(data.path(), log, &token, 0);
    let second = start(data.path(), log, &token, 1);
    let both = reader([&first, &second], &token);
    assert_eq!(select(&both).await.expect("answers"), (all.clone(), vec![]));
    fill(&bed, &mut all, 2).await;
    assert_eq!(select(&both).await.expect("answers"), (all.clone(), vec![]));
    let lost = format!("storage node {} is unreachable: partitions 1, 3 are missing from this answer", second.url);
    drop(second);
    let (got, warnings) = select(&both).await.expect("answers");
    let expect = all.clone().into_iter().filter(|(labels, _)| labels.as_ref().partition(4) % 2 == 0);
    assert_eq!((got, warnings), (expect.collect(), vec![lost]));
    fill(&bed, &mut all, 3).await;
    let second = start(data.path(), log, &token, 1);
    let both = reader([&first, &second], &token);
    assert_eq!(select(&both).await.expect("answers"), (all, vec![]));
}
