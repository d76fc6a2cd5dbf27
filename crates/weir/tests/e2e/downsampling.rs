//! Samples that are left out when they are old: the same answers, and an info that says what they are made of.

use model::{Labels, Sample};
use serde_json::Value;

use crate::support::until;
use crate::weir::{Launch, Weir};

/// Ten windows of a minute, from a multiple of it on, some days ago: 2023-11-14T00:00:00Z.
const FROM: i64 = 1_699_920_000_000;

const QUERIES: [&str; 8] = [
    "count_over_time(m_total[1m])",
    "sum_over_time(m_total[10m])",
    "avg_over_time(m_total[2m])",
    "max_over_time(m_total[10m])",
    "rate(m_total[5m])",
    "increase(m_total[10m])",
    "resets(m_total[10m])",
    "m_total",
];

fn series() -> Vec<(Labels, Vec<Sample>)> {
    // Irregular, so that fewer take less room; a reset.
    let v = |n: i64| (n * 1000 + n * n * 7919 % 997) as f64;
    let samples = (1..=600).map(|n| Sample { t: FROM + n * 1000, v: if n < 330 { v(n) } else { v(n - 330) } });
    let samples: Vec<Sample> = samples.collect();
    ["m_total", "other_total"].map(|name| (Labels::new(&[("__name__", name)]).expect("valid"), samples.clone())).into()
}

/// The result and the infos of each query at the end of the windows.
async fn answers(weir: &Weir, queries: &[&str]) -> Vec<(Value, Value)> {
    let mut all = Vec::new();
    for query in queries {
        let time = ((FROM + 600_000) / 1000).to_string();
        let (status, answer) = weir.post_form("/api/v1/query", &[("query", *query), ("time", &time)]).await;
        assert_eq!(status, 200, "{query}: {answer}");
        assert!(answer["warnings"].is_null(), "{query}: {answer}");
        all.push((answer["data"]["result"].clone(), answer["infos"].clone()));
    }
    all
}

async fn started(data: &std::path::Path) -> Weir {
    let flags = ["--retention", "off", "--storage-downsample", "m_total: 1d:1m 3650000d:1h"];
    Launch::new(data).args(&flags).start().await
}

/// Waits until so many samples are in blocks.
async fn until_in_blocks(weir: &Weir, samples: u64) {
    until(async || {
        let page = weir.metrics().await;
        let found = page.lines().find(|line| line.starts_with("weir_storage_block_samples ")).unwrap_or_default();
        if *found == format!("weir_storage_block_samples {samples}") { Ok(()) } else { Err(found.to_owned()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_answer_what_the_samples_did_and_an_info_says_so_until_raw_samples_are_there_again() {
    let data = tempfile::tempdir().expect("directory");
    let weir = started(data.path()).await;
    assert_eq!(weir.remote_write(&series()).await.expect("answered"), 204);
    let raw = answers(&weir, &QUERIES).await;
    assert!(
        raw.iter().all(|(result, infos)| result.as_array().is_some_and(|r| r.len() == 1) && infos.is_null()),
        "{raw:?}"
    );
    weir.stop();

    let weir = started(data.path()).await;
    // Ends of ten windows, with both sides of the reset, and all of the other series.
    until_in_blocks(&weir, 22 + 600).await;
    let info = "PromQL info: aggregates of 1m were used for samples up to 2023-11-14T00:10:00Z (1:1)";
    let found = answers(&weir, &QUERIES).await;
    for (query, ((found, infos), (expect, _))) in QUERIES.iter().zip(found.iter().zip(&raw)) {
        assert_eq!((found, infos), (expect, &serde_json::json!([info])), "{query}");
    }
    let others = answers(&weir, &["sum_over_time(other_total[10m])", "m_total @ 0"]).await;
    assert!(others.iter().all(|(_, infos)| infos.is_null()), "{others:?}");

    // All of it once more, as from a log that is read again.
    assert_eq!(weir.remote_write(&series()[..1]).await.expect("answered"), 204);
    assert_eq!(answers(&weir, &QUERIES).await, raw);
    weir.stop();
}
