//! The dependency arrows of ARCHITECTURE.md, held against what cargo says.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Each room and the rooms it may depend on. What is not listed is forbidden.
const ARROWS: &[(&str, &[&str])] = &[
    ("ired-proto", &[]),
    ("ired-module", &[]),
    ("ired-host", &[]),
    ("ired-graph", &["ired-host"]),
    ("ired-frontends", &["ired-graph", "ired-host"]),
    ("ired-mlir", &[]),
    ("ired-compiler", &["ired-graph", "ired-frontends", "ired-host", "ired-mlir", "ired-module"]),
    ("ired-hal", &[]),
    ("ired-driver-template", &["ired-hal"]),
    ("ired-driver-cpu", &["ired-hal"]),
    ("ired-runtime", &["ired-hal", "ired-host", "ired-module"]),
    ("ired-worker", &["ired-module"]),
    ("ired-compiler-worker", &["ired-worker", "ired-compiler", "ired-module"]),
    (
        "ired-runtime-worker",
        &["ired-worker", "ired-runtime", "ired-hal", "ired-host", "ired-driver-cpu", "ired-module"],
    ),
    ("ired", &["ired-proto", "ired-worker", "ired-module"]),
    ("ired-client", &["ired-proto"]),
    ("irectl", &["ired-client", "ired-worker", "ired-module"]),
    // Not part of the product.
    ("ired-tests", &["ired-client"]),
    ("xtask", &[]),
];

/// Crates that only one room may touch.
const DOORS: &[(&str, &str)] = &[("mlir-sys", "ired-mlir"), ("llvm-sys", "ired-mlir")];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path("../Cargo.toml")
        .no_deps()
        .exec()
        .expect("the workspace has metadata")
}

/// What each workspace package depends on, tests aside.
fn dependencies(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let normal = |kind| kind != DependencyKind::Development;
    metadata
        .packages
        .iter()
        .map(|p| {
            let names = p.dependencies.iter().filter(|d| normal(d.kind)).map(|d| d.name.clone());
            (p.name.to_string(), names.collect())
        })
        .collect()
}

#[test]
fn every_room_depends_only_on_what_its_arrows_allow() {
    let found = dependencies(&metadata());
    let rooms: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    assert_eq!(rooms, listed, "every room stands in the table, and nothing else");

    let mut wrong = Vec::new();
    for (room, allowed) in ARROWS {
        for dependency in found[*room].iter().filter(|d| rooms.contains(d.as_str())) {
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{room} -> {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden arrows: {wrong:?}");
}

#[test]
fn only_one_room_opens_the_door_to_mlir() {
    let found = dependencies(&metadata());
    for (crate_name, door) in DOORS {
        let users: Vec<&String> =
            found.iter().filter(|(_, d)| d.contains(*crate_name)).map(|(room, _)| room).collect();
        assert_eq!(users, [*door], "`{crate_name}` is used by {users:?}");
    }
}
