//! The tree is the architecture diagram: the dependency edges between the crates of the workspace are those of
//! ARCHITECTURE.md, no more and no fewer. A new edge is a reviewed change of the list below.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, and the workspace crates that it links.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("promql", &["model"]),
    ("rules", &["model", "promql"]),
    ("runtime", &[]),
    ("queue", &["model", "runtime"]),
    ("ingest", &["model", "queue", "runtime"]),
    ("tsdb", &["model"]),
    ("storage", &["model", "promql", "queue", "runtime", "tsdb"]),
    ("query", &["model", "promql", "runtime", "storage"]),
    ("alerting", &["model", "promql", "queue", "rules", "runtime", "storage", "tsdb"]),
    ("controller", &["rules", "runtime"]),
    ("weir", &["alerting", "ingest", "model", "promql", "query", "queue", "rules", "runtime", "storage", "tsdb"]),
];

fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

#[test]
fn dependency_edges_are_those_of_the_diagram() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let names: BTreeSet<&str> = packages.iter().map(|p| p["name"].as_str().expect("name")).collect();
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        // Test-only dependencies are not edges of the diagram.
        let edges: BTreeSet<&str> = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|d| d["kind"].is_null())
            .filter_map(|d| names.get(d["name"].as_str()?).copied())
            .collect();
        found.insert(package["name"].as_str().expect("name"), edges.into_iter().collect());
    }
    let expect: BTreeMap<&str, Vec<&str>> = EDGES.iter().map(|(name, edges)| (*name, edges.to_vec())).collect();
    assert_eq!(found, expect);
}

#[test]
fn only_the_assembling_crate_carries_the_name_of_the_product_and_none_is_published() {
    for package in metadata()["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name");
        assert!(name == "weir" || !name.contains("weir"), "{name}");
        assert_eq!(package["publish"], serde_json::json!([]), "{name} could be published");
    }
}
