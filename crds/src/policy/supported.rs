//! What this version refuses instead of ignoring: a field that can't be honoured stalls the policy (reason NotSupported).

use super::{ScanTrigger, ZastavaPolicySpec};

/// Paths of the fields of `spec` that this version can't honour yet, in the order of the schema.
pub fn unsupported_fields(spec: &ZastavaPolicySpec) -> Vec<String> {
    let mut fields = Vec::new();
    if spec.scan.as_ref().is_some_and(|scan| scan.on.contains(&ScanTrigger::Posture)) {
        fields.push("spec.scan.on: Posture".to_owned());
    }
    if spec.exceptions.iter().any(|exception| !exception.match_.paths.is_empty()) {
        fields.push("spec.exceptions.match.paths".to_owned());
    }
    fields
}
