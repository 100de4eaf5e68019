//! Writes the two CRDs, as the chart `zastava-crds` ships them, into a folder.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use kube::CustomResourceExt;
use zastava_crds::{finding::RuntimeFinding, policy::ZastavaPolicy};

/// Helm's guard of what a user may want to keep, and the value that turns it off.
const KEEP: &str = "    {{- if .Values.keep }}\n    helm.sh/resource-policy: keep\n    {{- end }}\n";

fn main() -> Result<()> {
    let folder: PathBuf = env::args_os().nth(1).context("usage: crdgen FOLDER (the chart's templates folder)")?.into();
    for crd in [ZastavaPolicy::crd(), RuntimeFinding::crd()] {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let mut value = serde_json::to_value(&crd)?;
        value["metadata"]["annotations"] = serde_json::json!({ "zastava.stella-ops.org/generated-by": "crdgen" });
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
