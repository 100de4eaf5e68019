//! The rules of the CRDs, evaluated in process: each refuses its example with its message, and the documents' own
//! examples pass. The same table runs against a real API server in tests/e2e.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

use kube::CustomResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use zastava_crds::{
    finding::RuntimeFinding,
    policy::{ZastavaPolicy, supported::unsupported_fields},
};

#[derive(Deserialize)]
struct Case {
    name: String,
    by: By,
    message: String,
    spec: Value,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum By {
    Rule,
    Schema,
}

fn cases() -> Vec<Case> {
    serde_saphyr::from_str(include_str!("invalid_policies.yaml")).unwrap()
}

fn policy(name: &str, spec: &Value) -> Result<ZastavaPolicy, serde_json::Error> {
    serde_json::from_value(json!({
        "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy", "metadata": {"name": name}, "spec": spec,
    }))
}

fn finding(subject: &str, acknowledged: bool) -> RuntimeFinding {
    let mut spec = json!({
        "workload": {"kind": "Deployment", "name": "web"}, "container": "web", "type": "Drift", "subject": subject,
    });
    if acknowledged {
        spec["acknowledgement"] = json!({"by": "ann", "reason": "known"});
    }
    serde_json::from_value(json!({
        "apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "RuntimeFinding",
        "metadata": {"name": "a", "namespace": "b"}, "spec": spec,
    }))
    .unwrap()
}

/// Messages of all rules below `schema`.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                found.insert(rule["message"].as_str().expect("every rule has a message").to_owned());
            }
            fields.values().for_each(|field| messages(field, found));
        }
        Value::Array(entries) => entries.iter().for_each(|entry| messages(entry, found)),
        _ => {}
    }
}

#[test]
fn every_rule_refuses_its_example_with_its_message() {
    for case in cases().iter().filter(|case| case.by == By::Rule) {
        let policy = policy("example", &case.spec).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let errors = policy.validate_cel().expect_err(&case.name);
        assert!(
            errors.as_slice().iter().any(|error| error.message.contains(&case.message)),
            "{}: expected \"{}\", got {errors}",
            case.name,
            case.message
        );
    }
}

#[test]
fn every_rule_has_an_example() {
    let mut rules = BTreeSet::new();
    messages(&serde_json::to_value(ZastavaPolicy::crd()).unwrap(), &mut rules);
    let cases = cases();
    let missing: Vec<_> = rules.iter().filter(|rule| !cases.iter().any(|case| rule.contains(&case.message))).collect();
    assert!(missing.is_empty(), "rules without an invalid example: {missing:?}");
}

#[test]
fn the_key_of_a_finding_never_changes() {
    let old = finding("/tmp/x", false);
    finding("/tmp/x", true).validate_cel_update(&old).unwrap();
    let errors = finding("/tmp/y", false).validate_cel_update(&old).unwrap_err();
    assert!(errors.to_string().contains("the key of a finding never changes"), "{errors}");
}

#[test]
fn the_documents_examples_are_valid_and_supported() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Folders are examples of something else, and have tests of their own.
        if path.is_dir() {
            continue;
        }
        let example: ZastavaPolicy = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        example.validate_cel().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(unsupported_fields(&example.spec), Vec::<String>::new(), "{}", path.display());
        seen += 1;
    }
    assert!(seen > 0);
}
