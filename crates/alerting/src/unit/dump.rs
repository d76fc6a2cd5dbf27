//! All series that a test has in the end, as `promtool test rules --debug` shows them.

use model::{Labels, TimeRange};
use promql::FloatHistogram;

use super::bench::Bench;
use super::check::{self, Pairs};
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
                let floats = columns.t.iter().zip(&columns.v).map(|(t, v)| format!("{} @[{t}]", promql::plain(*v)));
                let histograms = columns
                    .histograms
                    .iter()
                    .map(|one| format!("{} @[{}]", FloatHistogram::new(&one.histogram), one.t));
                let samples: Vec<String> = floats.chain(histograms).collect();
                format!("{} =>\n{}", name(labels), samples.join("\n"))
            });
            format!("{title}\n{}", shown.collect::<Vec<_>>().join("\n"))
        }
        Err(error) => format!("Failed query exec: {error}"),
    }
}

/// The labels as they are shown.
fn name(labels: &Labels) -> Pairs {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
