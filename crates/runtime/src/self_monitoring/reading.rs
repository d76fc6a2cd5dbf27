//! What registries say at one moment, as series: a job for each component, `up` for each job, histograms as their buckets, sum and count.
//!
//! Where the series go is the [`Sink`]'s business: a request of remote write, or ingest's writer in the same process.

use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Series with the suffixes `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// Takes what is read.
pub trait Sink {
    /// A family, told before its series, and again for each component that has it.
    fn family(&mut self, name: &str, kind: Kind, help: &str);

    /// A series, `__name__` among its labels, ascending by name; and its value.
    fn sample(&mut self, labels: &[(&str, &str)], value: f64);
}

/// Tells the sink everything that the components' registries gathered.
pub fn read(gathered: &[(&'static str, Vec<MetricFamily>)], instance: &str, sink: &mut impl Sink) {
    for (component, families) in gathered {
        let job = format!("weir/{component}");
        let mut reading = Reading { sink, job: &job, instance };
        reading.push("up", &[], None, 1.0);
        for family in families {
            reading.family(family);
        }
    }
}

struct Reading<'a, S> {
    sink: &'a mut S,
    job: &'a str,
    instance: &'a str,
}

impl<S: Sink> Reading<'_, S> {
    fn family(&mut self, family: &MetricFamily) {
        let name = family.name();
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::GAUGE => Kind::Gauge,
            MetricType::HISTOGRAM => Kind::Histogram,
            // The library that components count with makes neither.
            MetricType::SUMMARY | MetricType::UNTYPED => return,
        };
        self.sink.family(name, kind, family.help());
        for metric in family.get_metric() {
            let labels = metric.get_label();
            match kind {
                Kind::Counter => self.push(name, labels, None, metric.get_counter().get_value()),
                Kind::Gauge => self.push(name, labels, None, metric.get_gauge().get_value()),
                Kind::Histogram => self.histogram(name, labels, metric.get_histogram()),
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[LabelPair], histogram: &proto::Histogram) {
        let bucket = format!("{name}_bucket");
        for one in histogram.get_bucket().iter().filter(|b| b.upper_bound().is_finite()) {
            let le = one.upper_bound().to_string();
            self.push(&bucket, labels, Some(&le), one.cumulative_count() as f64);
        }
        let count = histogram.get_sample_count() as f64;
        self.push(&bucket, labels, Some("+Inf"), count);
        self.push(&format!("{name}_sum"), labels, None, histogram.get_sample_sum());
        self.push(&format!("{name}_count"), labels, None, count);
    }

    fn push(&mut self, name: &str, labels: &[LabelPair], le: Option<&str>, value: f64) {
        let own = labels.iter().map(|label| (label.name(), label.value()));
        let more = [("__name__", name), ("job", self.job), ("instance", self.instance)];
        let mut pairs: Vec<(&str, &str)> = own.chain(more).chain(le.map(|le| ("le", le))).collect();
        pairs.sort_unstable();
        self.sink.sample(&pairs, value);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Histogram, HistogramOpts, IntGaugeVec, Opts};

    use super::*;
    use crate::metrics::Page;

    #[derive(Default)]
    struct Lines(Vec<String>);

    impl Sink for Lines {
        fn family(&mut self, name: &str, kind: Kind, help: &str) {
            self.0.push(format!("# {name} {kind:?} {help}"));
        }

        fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
            let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.0.push(format!("{} {value}", labels.join(" ")));
        }
    }

    #[test]
    fn each_component_is_a_job_with_up_and_histograms_are_expanded() {
        let mut page = Page::default();
        let queue = page.add("queue");
        let depth = IntGaugeVec::new(Opts::new("depth", "How deep."), &["group"]).expect("valid");
        depth.with_label_values(&["storage"]).set(7);
        queue.register(Box::new(depth)).expect("new");
        let query = page.add("query");
        let seconds = HistogramOpts::new("seconds", "How long.").buckets(vec![0.5, 1.0]);
        let seconds = Histogram::with_opts(seconds).expect("valid");
        seconds.observe(0.75);
        seconds.observe(3.0);
        query.register(Box::new(seconds)).expect("new");

        let mut lines = Lines::default();
        read(&page.gather(), "127.0.0.1:1", &mut lines);
        let expect = [
            "__name__=up instance=127.0.0.1:1 job=weir/queue 1",
            "# depth Gauge How deep.",
            "__name__=depth group=storage instance=127.0.0.1:1 job=weir/queue 7",
            "__name__=up instance=127.0.0.1:1 job=weir/query 1",
            "# seconds Histogram How long.",
            "__name__=seconds_bucket instance=127.0.0.1:1 job=weir/query le=0.5 0",
            "__name__=seconds_bucket instance=127.0.0.1:1 job=weir/query le=1 1",
            "__name__=seconds_bucket instance=127.0.0.1:1 job=weir/query le=+Inf 2",
            "__name__=seconds_sum instance=127.0.0.1:1 job=weir/query 3.75",
            "__name__=seconds_count instance=127.0.0.1:1 job=weir/query 2",
        ];
        assert_eq!(lines.0, expect);
    }
}
