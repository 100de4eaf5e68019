//! A policy held against the schema of its CRD, with the messages of the API server.
//!
//! What serde can't see: fields that don't exist (the API server prunes them, and a misspelt `signatures` would ask for
//! nothing), bounds, patterns and entries that are there twice.

use std::sync::LazyLock;

use kube::CustomResourceExt as _;
use regex::Regex;
use serde_json::{Map, Value, json};
use zastava_crds::policy::ZastavaPolicy;

/// Problems that are told of one policy at most.
const MAX_PROBLEMS: usize = 32;

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(ZastavaPolicy::crd()).unwrap_or_default();
    let mut schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default();
    // What every object has, and the schema of a CRD does not say.
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    schema["properties"]["status"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    schema
});

/// Everything that is wrong with a policy, in the order of its fields; nothing: it fits.
pub fn problems(policy: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(&SCHEMA, policy, "", &mut problems);
    problems.truncate(MAX_PROBLEMS);
    problems
}

fn check(schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    let any = schema["x-kubernetes-int-or-string"] == json!(true);
    if value.is_null() {
        // The API server drops a null where the schema lets it.
        if schema["nullable"] != json!(true) && schema.get("type").is_some() {
            problems.push(format!("{path}: Invalid value: \"null\": must be of type {}", text(schema, "type")));
        }
        return;
    }
    let wanted = text(schema, "type");
    if !any && !wanted.is_empty() && !is_of(value, wanted) {
        problems.push(format!("{path}: Invalid value: {}: must be of type {wanted}", kind(value)));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<_> = allowed.iter().filter(|v| !v.is_null()).map(ToString::to_string).collect();
        problems.push(format!("{path}: Unsupported value: {value}: supported values: {}", allowed.join(", ")));
    }
    match value {
        Value::Object(fields) => object(schema, fields, path, problems),
        Value::Array(entries) => array(schema, entries, path, problems),
        Value::String(text) => string(schema, text, path, problems),
        Value::Number(number) => {
            let given = number.as_f64().unwrap_or_default();
            if schema["minimum"].as_f64().is_some_and(|least| given < least) {
                let least = &schema["minimum"];
                problems.push(format!("{path}: Invalid value: {value}: should be greater than or equal to {least}"));
            }
            if schema["maximum"].as_f64().is_some_and(|most| given > most) {
                let most = &schema["maximum"];
                problems.push(format!("{path}: Invalid value: {value}: should be less than or equal to {most}"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn object(schema: &Value, fields: &Map<String, Value>, path: &str, problems: &mut Vec<String>) {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required.filter(|name| !fields.contains_key(*name)) {
        problems.push(format!("{}: Required value", at(name)));
    }
    let others = &schema["additionalProperties"];
    let open = schema["x-kubernetes-preserve-unknown-fields"] == json!(true) || *others == json!(true);
    for (name, value) in fields {
        match schema["properties"].get(name) {
            Some(schema) => check(schema, value, &at(name), problems),
            None if others.is_object() => check(others, value, &at(name), problems),
            None if open || schema.get("properties").is_none() => {}
            None => problems.push(format!("unknown field {:?}", at(name))),
        }
    }
}

fn array(schema: &Value, entries: &[Value], path: &str, problems: &mut Vec<String>) {
    let count = entries.len();
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count as u64 > *most) {
        problems.push(format!("{path}: Too many: {count}: must have at most {most} items"));
    }
    if let Some(least) = schema["minItems"].as_u64().filter(|least| (count as u64) < *least) {
        problems.push(format!("{path}: Invalid value: {count}: should have at least {least} items"));
    }
    let keys: Vec<_> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let key = |entry: &Value| match text(schema, "x-kubernetes-list-type") {
        "set" => Some(entry.clone()),
        "map" => Some(keys.iter().map(|key| entry[key].clone()).collect()),
        _ => None,
    };
    for (i, entry) in entries.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if let Some(own) = key(entry)
            && entries[..i].iter().any(|before| key(before).as_ref() == Some(&own))
        {
            problems.push(format!("{at}: Duplicate value: {own}"));
        }
        check(&schema["items"], entry, &at, problems);
    }
}

fn string(schema: &Value, value: &str, path: &str, problems: &mut Vec<String>) {
    let length = value.chars().count() as u64;
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        problems.push(format!("{path}: Too long: may not be more than {most} bytes"));
        return;
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        problems.push(format!("{path}: Invalid value: {value:?}: should be at least {least} chars long"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(value))
    {
        let shown: String = value.chars().take(64).collect();
        problems.push(format!("{path}: Invalid value: {shown:?}: should match '{pattern}'"));
    }
}

fn text<'a>(schema: &'a Value, field: &str) -> &'a str {
    schema[field].as_str().unwrap_or_default()
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "\"object\"",
        Value::Array(_) => "\"array\"",
        Value::String(_) => "\"string\"",
        Value::Bool(_) => "\"boolean\"",
        Value::Number(_) => "\"number\"",
        Value::Null => "\"null\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(spec: &Value) -> Value {
        json!({"apiVersion": "zastava.stella-ops.org/v1alpha1", "kind": "ZastavaPolicy",
            "metadata": {"name": "p", "labels": {"a": "b"}}, "spec": spec})
    }

    /// The table that a real API server is asked as well.
    #[test]
    fn every_bound_refuses_its_example_with_the_api_servers_message() {
        let cases: Vec<Value> = serde_saphyr::from_str(include_str!("../../crds/tests/invalid_policies.yaml")).unwrap();
        let mut seen = 0;
        for case in cases {
            let problems = problems(&policy(&case["spec"]));
            if case["by"] == json!("rule") {
                assert_eq!(problems, Vec::<String>::new(), "{}", case["name"]);
                continue;
            }
            let message = case["message"].as_str().unwrap();
            assert!(problems.iter().any(|p| p.contains(message)), "{}: {message}: {problems:?}", case["name"]);
            seen += 1;
        }
        assert!(seen > 10);
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let spec = json!({"mode": "Audit", "admission": {"sinatures": []}});
        assert_eq!(problems(&policy(&spec)), ["unknown field \"spec.admission.sinatures\""]);
        assert_eq!(problems(&policy(&json!({"admission": {"sbom": null}}))), Vec::<String>::new());
    }
}
