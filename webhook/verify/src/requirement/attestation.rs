//! Attestations that an image must carry.

use zastava_crds::policy::{AdmissionSpec, Attestation};

use super::{RequirementError, SignatureRequirement};
use crate::condition::Conditions;

/// One entry of `attestations`.
#[derive(Clone, Debug)]
pub struct AttestationRequirement {
    predicate_type: String,
    signed_by: SignatureRequirement,
    conditions: Conditions,
}

/// Whether the conditions of a policy's `admission` can be compiled.
pub(super) fn check(spec: &AdmissionSpec) -> Result<(), RequirementError> {
    spec.attestations.iter().enumerate().try_for_each(|(index, of)| compile(index, of).map(drop))
}

fn compile(index: usize, attestation: &Attestation) -> Result<Conditions, RequirementError> {
    Conditions::compile(&attestation.conditions).map_err(|error| RequirementError::Condition {
        field: format!("attestations[{index}].{}", error.field()),
        why: error.why,
    })
}

impl AttestationRequirement {
    pub(super) fn from_spec(
        index: usize,
        attestation: &Attestation,
        signatures: &[SignatureRequirement],
    ) -> Result<Self, RequirementError> {
        let at = format!("attestations[{index}]");
        let signed_by = super::named(signatures, attestation.signed_by.as_deref(), &at)?.clone();
        let conditions = compile(index, attestation)?;
        Ok(Self { predicate_type: attestation.predicate_type.clone(), signed_by, conditions })
    }

    /// The predicate type, exactly.
    pub fn predicate_type(&self) -> &str {
        &self.predicate_type
    }

    /// Who must have signed it.
    pub fn signed_by(&self) -> &SignatureRequirement {
        &self.signed_by
    }

    /// What its predicate must meet.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }
}
