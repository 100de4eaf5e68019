//! Writes `reference.md`, every field of both kinds as the CRDs have it, into a folder.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;
use zastava_crds::{finding::RuntimeFinding, policy::ZastavaPolicy};

const HEAD: &str = "# Reference\n\nEvery field of both kinds, with its default, its bounds and the rules that the API \
server checks. `kubectl explain zp.spec` and `kubectl explain rf.status` say the same.\n\n\
<!-- Generated from the CRDs: cargo run -p zastava-crds --bin docgen -- docs -->\n";

fn main() -> Result<()> {
    let folder: PathBuf = env::args_os().nth(1).context("usage: docgen FOLDER (docs)")?.into();
    let mut text = HEAD.to_owned();
    for crd in [ZastavaPolicy::crd(), RuntimeFinding::crd()] {
        kind(&mut text, &crd)?;
    }
    let path = folder.join("reference.md");
    fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
}

fn kind(text: &mut String, crd: &CustomResourceDefinition) -> Result<()> {
    let names = &crd.spec.names;
    let version = crd.spec.versions.first().context("a CRD has a version")?;
    let schema =
        version.schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).context("a version has a schema")?;
    let schema = serde_json::to_value(schema)?;
    writeln!(text, "\n## {}\n\n{}\n", names.kind, prose(&schema))?;
    let short = names.short_names.iter().flatten().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    writeln!(
        text,
        "`apiVersion: {}/{}` · {} · short name {short} · field selectors {}\n",
        crd.spec.group,
        version.name,
        if crd.spec.scope == "Cluster" { "cluster-scoped" } else { "in a namespace" },
        version.selectable_fields.iter().flatten().map(|f| format!("`{}`", f.json_path)).collect::<Vec<_>>().join(", "),
    )?;
    text.push_str("| Column of `kubectl get` | From | What it says |\n|---|---|---|\n");
    for column in version.additional_printer_columns.iter().flatten() {
        let wide = if column.priority.unwrap_or(0) > 0 { " (`-o wide`)" } else { "" };
        let says = column.description.as_deref().unwrap_or_default();
        writeln!(text, "| {}{wide} | `{}` | {} |", column.name.to_uppercase(), column.json_path, cell(says))?;
    }
    for part in ["spec", "status"] {
        object(text, part, &schema["properties"][part])?;
    }
    Ok(())
}

/// One heading and table an object, then its objects in turn.
fn object(text: &mut String, path: &str, schema: &Value) -> Result<()> {
    let Some(fields) = schema["properties"].as_object() else { return Ok(()) };
    writeln!(text, "\n### `{path}`\n\n{}\n", prose(schema))?;
    text.push_str("| Field | Type | Default | Bounds | What it says |\n|---|---|---|---|---|\n");
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in fields {
        writeln!(
            text,
            "| `{name}`{} | {} | {} | {} | {} |",
            if required(name) { " (required)" } else { "" },
            type_of(field),
            field.get("default").map(|d| format!("`{}`", cell(&d.to_string()))).unwrap_or_default(),
            bounds(field),
            cell(&prose(field)),
        )?;
    }
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    for (at, rule) in rules.enumerate() {
        if at == 0 {
            text.push_str("\nRules, by the message of their refusal:\n\n");
        }
        writeln!(text, "- {}", rule["message"].as_str().or(rule["rule"].as_str()).unwrap_or_default())?;
    }
    for (name, field) in fields {
        if own_table(field) {
            object(text, &format!("{path}.{name}"), field)?;
        } else if own_table(&field["items"]) {
            object(text, &format!("{path}.{name}[]"), &field["items"])?;
        }
    }
    Ok(())
}

/// Selectors and conditions are Kubernetes' own, and known.
fn well_known(schema: &Value) -> Option<&'static str> {
    let has = |name: &str| schema["properties"].get(name).is_some();
    if has("matchLabels") && has("matchExpressions") {
        Some("label selector")
    } else if has("lastTransitionTime") && has("reason") {
        Some("condition")
    } else {
        None
    }
}

fn own_table(schema: &Value) -> bool {
    schema["properties"].is_object() && well_known(schema).is_none()
}

fn type_of(schema: &Value) -> String {
    if let Some(name) = well_known(schema) {
        return name.to_owned();
    }
    match schema["type"].as_str().unwrap_or("any") {
        "array" => format!("list of {}", type_of(&schema["items"])),
        "string" if schema["format"] == "date-time" => "time".to_owned(),
        other => other.to_owned(),
    }
}

fn bounds(schema: &Value) -> String {
    let mut all = Vec::new();
    let item = &schema["items"];
    let of_items = |what: &str| if item.is_object() { format!("each {what}") } else { what.to_owned() };
    if let Some(text) = range(&schema["minItems"], &schema["maxItems"], "entries") {
        all.push(text);
    }
    let leaf = if item.is_object() { item } else { schema };
    if let Some(values) = leaf["enum"].as_array() {
        let values = values.iter().filter_map(Value::as_str).map(|v| format!("`{v}`")).collect::<Vec<_>>();
        all.push(values.join(", "));
    }
    if let Some(text) = range(&leaf["minLength"], &leaf["maxLength"], "characters") {
        all.push(of_items(&text));
    }
    if let Some(text) = range(&leaf["minimum"], &leaf["maximum"], "") {
        all.push(of_items(text.trim_end()));
    }
    if let Some(pattern) = leaf["pattern"].as_str() {
        all.push(of_items(&format!("like `{}`", cell(pattern))));
    }
    all.join("; ")
}

/// `1 to 8 entries`; a lower bound of 0 goes without saying.
fn range(least: &Value, most: &Value, unit: &str) -> Option<String> {
    let least = least.as_f64().filter(|least| *least > 0.0);
    match (least, most.as_f64()) {
        (Some(least), Some(most)) => Some(format!("{least} to {most} {unit}")),
        (Some(least), None) => Some(format!("at least {least} {unit}")),
        (None, Some(most)) => Some(format!("at most {most} {unit}")),
        (None, None) => None,
    }
}

fn prose(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A cell of a table is one line, and a bar ends it.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}
