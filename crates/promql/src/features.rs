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
}

/// Names of Prometheus that change nothing here: what they switch on is always on, or is not about queries.
const NO_CHANGE: &[&str] = &[
    "promql-per-step-stats",
    "st-storage",
    "xor2-encoding",
    "histograms-st-encoding",
    "native-histograms",
    "metadata-wal-records",
    "exemplar-storage",
    "memory-snapshot-on-shutdown",
    "concurrent-rule-eval",
    "promql-at-modifier",
    "promql-negative-offset",
    "promql-duration-expr",
    "promql-extended-range-selectors",
    "remote-write-receiver",
];

impl Features {
    /// Reads names separated by commas. The error lists those that are not known.
    pub fn from_names(names: &str) -> Result<Features, String> {
        let mut features = Features::default();
        let mut unknown = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "promql-experimental-functions" => features.experimental_functions = true,
                "promql-binop-fill-modifiers" => features.binop_fill_modifiers = true,
                "promql-delayed-name-removal" => features.delayed_name_removal = true,
                "type-and-unit-labels" => features.type_and_unit_labels = true,
                "use-start-timestamps" => features.use_start_timestamps = true,
                name if NO_CHANGE.contains(&name) => {}
                name => unknown.push(name),
            }
        }
        if unknown.is_empty() { Ok(features) } else { Err(format!("unknown feature: {}", unknown.join(", "))) }
    }

    /// Everything that the grammar knows.
    pub fn all() -> Features {
        Features {
            experimental_functions: true,
            binop_fill_modifiers: true,
            delayed_name_removal: true,
            type_and_unit_labels: true,
            use_start_timestamps: true,
        }
    }
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
}
