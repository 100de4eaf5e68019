//! Writes the two CRDs, as the chart `zastava-crds` ships them, into a folder.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use kube::CustomResourceExt;
use serde_json::Value;
use zastava_crds::{finding::RuntimeFinding, policy::ZastavaPolicy};

/// Helm's guard of what a user may want to keep, and the value that turns it off.
const KEEP: &str = "    {{- if .Values.keep }}\n    helm.sh/resource-policy: keep\n    {{- end }}\n";

fn main() -> Result<()> {
    let folder: PathBuf = env::args_os().nth(1).context("usage: crdgen FOLDER (the chart's templates folder)")?.into();
    for crd in [ZastavaPolicy::crd(), RuntimeFinding::crd()] {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let mut value = serde_json::to_value(&crd)?;
        value["metadata"]["annotations"] = serde_json::json!({ "zastava.stella-ops.org/generated-by": "crdgen" });
        kubernetes_manners(&mut value);
        let yaml = serde_saphyr::to_string(&value)?;
        // CEL and descriptions may hold braces that Helm would read as its own.
        let escaped = yaml.replace("{{", "{{ \"{{\" }}");
        let guarded = escaped.replacen(
            "zastava.stella-ops.org/generated-by: crdgen\n",
            &format!("zastava.stella-ops.org/generated-by: crdgen\n{KEEP}"),
            1,
        );
        let path = folder.join(&name);
        fs::write(&path, guarded).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// The API server warns of formats it does not know (the bounds say unsigned already), and `kubectl explain` breaks a
/// line wherever a description does.
fn kubernetes_manners(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("format").is_some_and(|format| format == "uint32" || format == "uint64") {
                fields.insert("format".to_owned(), "int64".into());
            }
            if let Some(Value::String(description)) = fields.get_mut("description") {
                let paragraphs: Vec<_> =
                    description.split("\n\n").map(|p| p.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
                *description = paragraphs.join("\n\n");
            }
            fields.values_mut().for_each(kubernetes_manners);
        }
        Value::Array(entries) => entries.iter_mut().for_each(kubernetes_manners),
        _ => {}
    }
}
