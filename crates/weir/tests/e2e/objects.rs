//! Blocks in object storage, on a real S3 server: the disk of storage is lost, and nothing else.

use std::path::Path;

use model::Sample;
use serde_json::Value;

use crate::support::s3::{self, S3};
use crate::support::{PATIENCE, install_tls, labels, program};
use crate::weir::{Launch, Weir};

async fn start(data: &Path, server: &S3, prefix: &str) -> Weir {
    let address = format!("s3://{}/{prefix}", s3::BUCKET);
    let flags = ["--retention", "off", "--storage-objects", &address, "--storage-objects-endpoint", &server.url];
    let more = ["--storage-cache-bytes", "0", "--storage-flush-interval", "1s"];
    let launch = Launch::new(data).args(&flags).args(&more);
    launch.env("AWS_ACCESS_KEY_ID", s3::KEY).env("AWS_SECRET_ACCESS_KEY", s3::SECRET).start().await
}

async fn write(weir: &Weir, instances: std::ops::Range<i64>) {
    let series = instances.map(|instance| {
        let labels = labels(&[("__name__", "kept"), ("instance", &instance.to_string())]);
        (labels, (0..60).map(|n| Sample { t: 1_700_000_000_000 + n * 15_000, v: (instance * n) as f64 }).collect())
    });
    assert_eq!(weir.remote_write(&series.collect::<Vec<_>>()).await.expect("answered"), 204);
}

async fn ask(weir: &Weir) -> Value {
    let form = [("query", "sum_over_time(kept[5m])"), ("start", "1700000000"), ("end", "1700000900"), ("step", "60")];
    let (status, answer) = weir.post_form("/api/v1/query_range", &form).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["warnings"].is_null(), "{answer}");
    answer["data"]["result"].clone()
}

#[tokio::test]
async fn what_was_written_is_answered_with_the_disk_of_storage_emptied() {
    let test = "weir_objects_disk_emptied";
    let Some(bin) = program(test, "S3_BIN") else { return };
    install_tls();
    let server = tokio::task::spawn_blocking(|| S3::shared(bin)).await.expect("starts");
    let dir = tempfile::tempdir().expect("directory");
    let prefix =
        format!("{test}-{}", dir.path().file_name().expect("a name").to_string_lossy().trim_start_matches('.'));
    let mut weir = start(dir.path(), &server, &prefix).await;
    write(&weir, 0..100).await;
    let flushed = ask(&weir).await;
    assert_eq!(flushed.as_array().map(Vec::len), Some(100));
    let uploaded = async {
        while !weir.metrics().await.contains("weir_storage_objects_local_bytes 0\n")
            || !weir
                .metrics()
                .await
                .lines()
                .any(|line| line.starts_with("weir_storage_objects_sent_bytes_total ") && !line.ends_with(" 0"))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, uploaded).await.expect("blocks are uploaded and leave the disk");
    write(&weir, 100..120).await;
    let all = ask(&weir).await;
    assert_eq!(all.as_array().map(Vec::len), Some(120));

    // Everything dies, and the disk of storage with it.
    weir.kill();
    std::fs::remove_dir_all(dir.path().join("storage")).expect("removed");
    let weir = start(dir.path(), &server, &prefix).await;
    assert_eq!(ask(&weir).await, all);
    weir.stop();

    // After an orderly end all of it is in the bucket, so that the log may be lost too.
    for lost in ["storage", "queue"] {
        std::fs::remove_dir_all(dir.path().join(lost)).expect("removed");
    }
    let weir = start(dir.path(), &server, &prefix).await;
    assert_eq!(ask(&weir).await, all);
    weir.stop();
}
