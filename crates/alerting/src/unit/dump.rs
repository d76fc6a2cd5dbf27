//! All series that a test has in the end, as `promtool test rules --debug` shows them.

use model::{Labels, TimeRange};
use promql::FloatHistogram;
use rules::template::go_float;

use super::bench::Bench;
use super::check;
use super::file::Test;
use crate::evaluate::{self, Setting};

/// The series with all their samples, up to a second or less after the last time at which something is expected.
pub(super) fn dump(test: &Test, start_ms: i64, bench: &Bench, setting: &Setting) -> String {
    // Of a whole number of seconds, and the sample at the very start is before the window.
    let length_ms = (test.length_ms() + 1000).div_euclid(1000) * 1000;
    let range = TimeRange { start_ms: start_ms + 1, end_ms: start_ms + length_ms };
    let title = format!("Dump of all data (input_series and rules) at {}:", check::go_duration(length_ms));
    match evaluate::samples(range, bench.head(), setting) {
        Ok(mut all) => {
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            let shown = all.iter().map(|(labels, columns)| {
                let floats = columns.t.iter().zip(&columns.v).map(|(t, v)| format!("{} @[{t}]", plain(*v)));
                let histograms = columns
                    .histograms
                    .iter()
                    .map(|one| format!("{} @[{}]", histogram(&FloatHistogram::new(&one.histogram)), one.t));
                let samples: Vec<String> = floats.chain(histograms).collect();
                format!("{} =>\n{}", name(labels), samples.join("\n"))
            });
            format!("{title}\n{}", shown.collect::<Vec<_>>().join("\n"))
        }
        Err(error) => format!("Failed query exec: {error}"),
    }
}

fn name(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={}", promql::quote(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A float without an exponent.
fn plain(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        v.to_string()
    }
}

fn histogram(one: &FloatHistogram) -> String {
    let mut text = format!("{{count:{}, sum:{}", go_float(one.count()), go_float(one.sum()));
    for bucket in one.buckets().filter(|bucket| bucket.count != 0.0) {
        let open = if bucket.lower_inclusive { '[' } else { '(' };
        let close = if bucket.upper_inclusive { ']' } else { ')' };
        let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(go_float);
        text.push_str(&format!(", {open}{lower},{upper}{close}:{count}"));
    }
    text.push('}');
    text
}
