//! Prometheus' feature switches, as far as they concern the language.

/// What is switched on. All are off by default, as in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `promql-experimental-functions`
    pub experimental_functions: bool,
    /// `promql-binop-fill-modifiers`
    pub binop_fill_modifiers: bool,
    /// `promql-delayed-name-removal`
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`
    pub type_and_unit_labels: bool,
    /// `use-start-timestamps`
    pub use_start_timestamps: bool,
    /// `promql-unquoted-utf8-names`
    pub unquoted_utf8_names: bool,
    /// `promql-per-step-stats`
    pub per_step_stats: bool,
}

const ALWAYS: &str = "this is always on";
const NO_SCRAPES: &str = "this does nothing: Weir scrapes nothing, it takes what Prometheus and collectors send";
const NO_OTLP: &str = "this does nothing: there is no endpoint of OTLP";
const NO_SUCH_STORAGE: &str = "this does nothing: it is about files of Prometheus, and Weir has its own";

/// Names of Prometheus that change nothing here, and why they do not.
const NO_CHANGE: [(&str, &str); 25] = [
    ("promql-at-modifier", ALWAYS),
    ("promql-negative-offset", ALWAYS),
    ("promql-duration-expr", ALWAYS),
    ("promql-extended-range-selectors", ALWAYS),
    ("native-histograms", ALWAYS),
    ("ooo-native-histograms", ALWAYS),
    ("exemplar-storage", "exemplars are always kept, and on disk"),
    ("metadata-wal-records", "metadata that is sent is always kept"),
    ("remote-write-receiver", ALWAYS),
    ("st-storage", "start times that are sent are always kept"),
    ("xor2-encoding", "start times that are sent are always kept, in blocks of Weir's own encoding"),
    ("histograms-st-encoding", "start times that are sent are always kept, in blocks of Weir's own encoding"),
    ("st-synthesis", "this does nothing: start times are kept as they are sent, and none are made up"),
    (
        "created-timestamp-zero-ingestion",
        "this does nothing: start times are kept as such, and no zeros are made of them",
    ),
    ("memory-snapshot-on-shutdown", NO_SUCH_STORAGE),
    ("delayed-compaction", NO_SUCH_STORAGE),
    ("use-uncached-io", NO_SUCH_STORAGE),
    ("fast-startup", NO_SUCH_STORAGE),
    ("extra-scrape-metrics", NO_SCRAPES),
    ("openmetrics2", NO_SCRAPES),
    ("zstd-scrape", NO_SCRAPES),
    ("otlp-deltatocumulative", NO_OTLP),
    ("otlp-native-delta-ingestion", NO_OTLP),
    ("concurrent-rule-eval", "this does nothing: Weir decides by itself which rules it evaluates at the same time"),
    ("auto-reload-config", "rule files are read again by themselves always"),
];
/// The same of parts of Prometheus that Weir does not have.
const NOT_HERE: [(&str, &str); 3] = [
    ("old-ui", "this does nothing: the user interface is Weir's own"),
    ("search-api", "this does nothing: there is no search endpoint"),
    (
        "query-cost",
        "this does nothing: what a query may take is bounded by --query-samples-max, --query-series-max and --query-timeout",
    ),
];

impl Features {
    /// Reads names separated by commas. The error lists those that are not known.
    pub fn from_names(names: &str) -> Result<Features, String> {
        let mut features = Features::default();
        let mut unknown = Vec::new();
        for name in listed(names) {
            match features.switch(name) {
                Some(switch) => *switch = true,
                None if why_nothing(name).is_some() => {}
                None => unknown.push(name),
            }
        }
        if unknown.is_empty() { Ok(features) } else { Err(format!("unknown feature: {}", unknown.join(", "))) }
    }

    /// What is to be told of the names of a list that is taken: of each whether it is switched on, or why it changes nothing.
    pub fn told(names: &str) -> impl Iterator<Item = (&str, &'static str)> {
        listed(names).map(|name| (name, why_nothing(name).unwrap_or("switched on")))
    }

    /// What a name switches on, where it does.
    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "promql-experimental-functions" => &mut self.experimental_functions,
            "promql-binop-fill-modifiers" => &mut self.binop_fill_modifiers,
            "promql-delayed-name-removal" => &mut self.delayed_name_removal,
            "type-and-unit-labels" => &mut self.type_and_unit_labels,
            "use-start-timestamps" => &mut self.use_start_timestamps,
            "promql-unquoted-utf8-names" => &mut self.unquoted_utf8_names,
            "promql-per-step-stats" => &mut self.per_step_stats,
            _ => return None,
        })
    }

    /// Of selectors in flags of Weir's own, which are read before it is known what is switched on: names of all scripts need no quotes there at all.
    pub fn of_flags() -> Features {
        Features { unquoted_utf8_names: true, ..Features::default() }
    }

    /// Everything that the grammar knows.
    pub fn all() -> Features {
        Features {
            experimental_functions: true,
            binop_fill_modifiers: true,
            delayed_name_removal: true,
            type_and_unit_labels: true,
            use_start_timestamps: true,
            unquoted_utf8_names: true,
            per_step_stats: true,
        }
    }
}

fn listed(names: &str) -> impl Iterator<Item = &str> {
    names.split(',').map(str::trim).filter(|name| !name.is_empty())
}

fn why_nothing(name: &str) -> Option<&'static str> {
    NO_CHANGE.iter().chain(&NOT_HERE).find(|(own, _)| *own == name).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_prometheus() {
        let features = Features::from_names("type-and-unit-labels, promql-duration-expr,").expect("known");
        assert_eq!(features, Features { type_and_unit_labels: true, ..Features::default() });
        assert_eq!(Features::from_names("a,promql-duration-expr,b"), Err("unknown feature: a, b".to_owned()));
    }

    /// All names that Prometheus 3.16 takes.
    const PROMETHEUS: &str = "exemplar-storage,memory-snapshot-on-shutdown,extra-scrape-metrics,metadata-wal-records,\
         promql-per-step-stats,auto-reload-config,concurrent-rule-eval,promql-unquoted-utf8-names,\
         promql-experimental-functions,promql-duration-expr,native-histograms,ooo-native-histograms,\
         created-timestamp-zero-ingestion,xor2-encoding,histograms-st-encoding,st-synthesis,st-storage,\
         use-start-timestamps,delayed-compaction,promql-delayed-name-removal,promql-extended-range-selectors,\
         promql-binop-fill-modifiers,old-ui,otlp-deltatocumulative,otlp-native-delta-ingestion,openmetrics2,\
         type-and-unit-labels,zstd-scrape,use-uncached-io,fast-startup,search-api,query-cost";

    #[test]
    fn all_names_that_prometheus_takes_are_taken_and_what_they_do_is_told() {
        assert_eq!(Features::from_names(PROMETHEUS), Ok(Features::all()));
        let told: Vec<(&str, &str)> = Features::told(PROMETHEUS).collect();
        assert_eq!(told.len(), 32);
        for (name, what) in told {
            let is_on = Features::from_names(name) != Ok(Features::default());
            assert_eq!(is_on, what == "switched on", "{name}: {what}");
        }
    }
}
