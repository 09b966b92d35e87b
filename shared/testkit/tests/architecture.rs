//! The direction of dependencies, held against `cargo metadata` (docs/architecture.md).

#![expect(clippy::unwrap_used, reason = "a test that cannot read its subject fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What each of our crates may know of the others. Everything points at `core`; adapters know `core` alone and meet the rest
/// only where a binary wires them.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("jose", &["core"]),
    ("inbound", &["core"]),
    ("oauth", &["core"]),
    ("service", &["core", "jose", "oauth"]),
    ("api", &["core", "jose", "oauth", "service"]),
    ("egress", &["core"]),
    ("aws", &["core"]),
    ("local", &["core", "system"]),
    ("proxy", &["core"]),
    ("system", &["core"]),
    ("telemetry", &["core"]),
    ("testkit", &["core"]),
    ("lambda", &["api", "aws", "core", "egress", "jose", "service", "system", "telemetry"]),
    ("authorizer", &["aws", "core", "egress", "inbound", "jose", "system", "telemetry"]),
    ("credentials", &["api", "lambda"]),
    ("gateway", &["api", "lambda"]),
    ("hello", &[]),
    ("raw-verify", &[]),
    ("refresh", &["lambda"]),
    ("rmcp-peer", &[]),
    ("sample", &[]),
    ("tokens", &["api", "lambda"]),
    (
        "cli",
        &[
            "api",
            "aws",
            "core",
            "egress",
            "inbound",
            "jose",
            "lambda",
            "local",
            "oauth",
            "proxy",
            "service",
            "telemetry",
        ],
    ),
];

/// Crates that only one of ours may name.
const ONLY: &[(&str, &[&str])] = &[
    ("rusqlite", &["local"]),
    ("jsonwebtoken", &["jose"]),
    ("tokio-rustls", &["egress", "proxy"]),
    ("rcgen", &["proxy"]),
    ("rustls", &["aws", "egress", "proxy"]),
    ("axum", &["api", "cli", "lambda"]),
    ("clap", &["cli"]),
];

/// Crates that core never sees: no runtime, no HTTP, no SQL.
const NOT_IN_CORE: &[&str] = &["tokio", "hyper", "http", "axum", "rusqlite", "tracing", "aws-lc-rs"];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn short(name: &str) -> String {
    if name == "agent-identity" {
        "cli".to_owned()
    } else {
        name.trim_start_matches("agent-identity-").to_owned()
    }
}

/// Direct dependencies of our crates: normal ones, or those of tests.
fn direct(metadata: &Value, kind: Option<&str>) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| members.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].as_str() == kind)
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (short(package["name"].as_str().unwrap()), dependencies)
        })
        .collect()
}

#[test]
fn our_crates_know_each_other_only_in_the_direction_of_the_picture() {
    let crates = direct(&metadata(), None);
    let known: BTreeSet<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        crates.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        known,
        "a new crate needs its place here"
    );
    for (name, may_know) in MAY_KNOW {
        let knows: BTreeSet<String> = crates[*name]
            .iter()
            .filter(|dependency| dependency.starts_with("agent-identity"))
            .map(|dependency| short(dependency))
            .collect();
        let more: Vec<_> = knows.iter().filter(|other| !may_know.contains(&other.as_str())).collect();
        assert!(more.is_empty(), "{name} must not know {more:?}");
    }
}

#[test]
fn a_library_that_decides_something_is_named_in_one_place() {
    let crates = direct(&metadata(), None);
    for (library, owners) in ONLY {
        for (name, dependencies) in &crates {
            assert!(
                !dependencies.contains(*library) || owners.contains(&name.as_str()),
                "{name} names {library}, which is {owners:?}'s"
            );
        }
    }
    for library in NOT_IN_CORE {
        assert!(!crates["core"].contains(*library), "core names {library}");
    }
    for (name, dependencies) in &crates {
        let aws: Vec<_> =
            dependencies.iter().filter(|dependency| dependency.starts_with("aws-sdk")).collect();
        assert!(aws.is_empty() || name == "aws", "{name} names {aws:?}: only the adapter `aws` may");
    }
}

#[test]
fn the_command_line_is_built_without_the_aws_sdk_unless_asked() {
    let tree = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO"))
            .args([
                "tree",
                "--package",
                "agent-identity",
                "--offline",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
            ])
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!tree(&[]).contains("aws-sdk-"));
    assert!(tree(&["--features", "aws"]).contains("aws-sdk-dynamodb"));
    assert!(!tree(&["--features", "aws"]).contains("lambda_runtime"), "the command line is no function");
}

#[test]
fn the_testkit_is_for_tests_only() {
    for (name, dependencies) in direct(&metadata(), None) {
        assert!(
            !dependencies.contains("agent-identity-testkit"),
            "{name} needs the testkit outside its tests"
        );
    }
}

#[test]
fn there_is_one_crypto_backend_and_one_tls_stack() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--offline",
            "--locked",
            "--edges",
            "features,normal,dev",
            "--prefix",
            "none",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for banned in ["ring", "native-tls", "openssl", "reqwest", "rust_crypto"] {
        assert!(!names.contains(banned), "{banned} is in the tree");
    }
    assert!(!tree.contains("\"rust_crypto\"") && !tree.contains("feature \"ring\""));
    let rustls: BTreeSet<&str> = tree
        .lines()
        .filter(|line| line.starts_with("rustls v"))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert!(rustls.len() <= 1, "several rustls: {rustls:?}");
}

#[test]
fn the_raw_door_of_secrets_is_opened_in_one_file() {
    let mut outside = Vec::new();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut pending =
        vec![std::path::PathBuf::from(root).join("shared"), std::path::PathBuf::from(root).join("cli")];
    while let Some(path) = pending.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                // The raw door of the `secrecy` crate is opened in one file.
                let raw = text.contains(concat!("expose", "_secret"));
                if raw && !path.ends_with("core/src/secret.rs") {
                    outside.push(path);
                }
            }
        }
    }
    assert!(outside.is_empty(), "{outside:?}");
}
