//! The metrics page of the process: the registries of its components, one text.

mod asked;

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};

pub use asked::{Disk, register_asked, register_bounds, register_disk};

/// A component's name and its metrics.
#[derive(Clone)]
pub struct Part {
    /// The component, as in `job="weir/<name>"`.
    pub name: &'static str,
    /// What it counts.
    pub registry: Registry,
}

/// The registries of a process; clones share them.
#[derive(Clone, Default)]
pub struct Page {
    parts: Vec<Part>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|part| part.name)).finish()
    }
}

impl Page {
    /// Adds a component, and returns the registry for its metrics.
    pub fn add(&mut self, name: &'static str) -> Registry {
        let registry = Registry::new();
        self.parts.push(Part { name, registry: registry.clone() });
        registry
    }

    /// The components with what they count now.
    pub fn gather(&self) -> Vec<(&'static str, Vec<MetricFamily>)> {
        self.parts.iter().map(|part| (part.name, part.registry.gather())).collect()
    }

    /// The text exposition format, version 0.0.4. A family that several components have is one family.
    pub fn text(&self) -> Vec<u8> {
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        for (_, gathered) in self.gather() {
            for family in gathered {
                match families.get_mut(family.name()) {
                    Some(known) => known.mut_metric().extend(family.get_metric().iter().cloned()),
                    None => drop(families.insert(family.name().to_owned(), family)),
                }
            }
        }
        let families: Vec<MetricFamily> = families.into_values().collect();
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::error!(%error, "metrics cannot be written as text");
        }
        text
    }
}

/// Registers what every process tells: its version, memory, CPU, descriptors.
pub fn register_process(registry: &Registry, version: &str) -> Result<(), prometheus::Error> {
    let build = IntGaugeVec::new(Opts::new("weir_build_info", "1, with the version as a label."), &["version"])?;
    build.with_label_values(&[version]).set(1);
    registry.register(Box::new(build))?;
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
}
