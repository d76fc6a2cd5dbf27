//! Functions over long windows read what is known of chunks, in whichever process these are.

use model::{Labels, Sample};
use serde_json::Value;

use crate::support::labels;
use crate::weir::{Launch, Weir};

const T0: i64 = 1_790_000_000_000;
const SERIES: i64 = 20;
const SAMPLES: i64 = 4_000;

/// What an expression is worth over a day, how many samples were read for it, and of how many series not all.
async fn ask(weir: &Weir, query: &str, all: &str) -> (Value, u64, u64) {
    let time = (T0 / 1000 + SAMPLES * 15).to_string();
    let form = [("query", query), ("time", &time), ("analyze", "1"), ("nooutline", all)];
    let (status, answer) = weir.post_form("/api/v1/query", &form).await;
    assert_eq!(status, 200, "{answer}");
    let root = &answer["data"]["analysis"];
    let number = |part: &Value, name: &str| part[name].as_u64().unwrap_or_else(|| panic!("{name}: {answer}"));
    let result = answer["data"]["result"].clone();
    assert_eq!(result.as_array().map(Vec::len), Some(SERIES as usize), "{answer}");
    (result, number(root, "samples_read"), number(&root["children"][0], "series_outlined"))
}

#[tokio::test]
async fn a_function_over_a_day_reads_few_samples_and_yields_the_same_bits() {
    let dir = tempfile::tempdir().expect("directory");
    let start = async || Launch::new(dir.path()).args(&["--retention", "off"]).start().await;
    let weir = start().await;
    let series: Vec<(Labels, Vec<Sample>)> = (0..SERIES)
        .map(|n| {
            let samples = (0..SAMPLES).map(|k| Sample { t: T0 + k * 15_000, v: (n * k) as f64 });
            (labels(&[("__name__", "x_total"), ("instance", &n.to_string())]), samples.collect())
        })
        .collect();
    for some in series.chunks(4) {
        assert_eq!(weir.remote_write(some).await.expect("answered"), 204);
    }
    // A query waits until all that was written is read, and who ends writes its head to blocks.
    ask(&weir, "max_over_time(x_total[1d])", "0").await;
    weir.stop();
    let weir = start().await;
    for function in ["max_over_time", "count_over_time", "sum_over_time", "rate"] {
        let query = format!("{function}(x_total[1d])");
        let (known, read, outlined) = ask(&weir, &query, "0").await;
        let (expect, all, of_all) = ask(&weir, &query, "1").await;
        assert_eq!(known, expect, "{query}");
        assert_eq!((all, of_all, outlined), ((SERIES * SAMPLES) as u64, 0, SERIES as u64), "{query}");
        assert!(read * 100 < all, "{query} reads {read} of {all}");
    }
    weir.stop();
}
