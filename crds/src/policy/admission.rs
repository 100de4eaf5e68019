//! What an image must prove before it may start.
//!
//! `kubectl explain` prints an optional field by the doc of its type, so both say the whole.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What an image must prove before it may start. Absent: this policy asks nothing at admission.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sbom) || !has(self.sbom.signedBy) || (has(self.signatures) && self.signatures.exists(s, s.name == self.sbom.signedBy))")
        .message("sbom.signedBy must be the name of an entry of signatures").field_path(".sbom.signedBy"),
    validation = Rule::new("!has(self.attestations) || self.attestations.all(a, !has(a.signedBy) || (has(self.signatures) && self.signatures.exists(s, s.name == a.signedBy)))")
        .message("attestations[].signedBy must be the name of an entry of signatures").field_path(".attestations"),
    validation = Rule::new("!((has(self.sbom) && !has(self.sbom.signedBy)) || (has(self.attestations) && self.attestations.exists(a, !has(a.signedBy)))) || (has(self.signatures) && size(self.signatures) == 1)")
        .message("set signedBy on sbom and attestations: without it there must be exactly one entry of signatures to take")
)]
pub struct AdmissionSpec {
    /// What becomes of a pod whose verdict is unknown, or when the webhook can't be reached.
    /// Absent: Fail in mode Enforce, Ignore otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
    /// What becomes of images in scope that `match.images` of no policy selects.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// Resolve pins `tag@digest` on pods (and only on pods), Require refuses what is not pinned, Off leaves tags alone.
    /// Absent: Resolve in mode Enforce, Off otherwise. Audit never changes a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digests: Option<Digests>,
    /// Signatures an image must carry; each entry must be satisfied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub signatures: Vec<Signature>,
    /// The software bill of materials an image must carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<Sbom>,
    /// In-toto attestations an image must carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub attestations: Vec<Attestation>,
    /// Base images of which it must be built on one: `host/repository@sha256:…` (shown by its layers or a signed
    /// provenance), `sha256:…` or a glob on `host/repository` (shown by a signed provenance).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 330)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub base_images: Vec<String>,
    /// The backend's word about the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<VerdictSpec>,
}

/// What becomes of a pod whose verdict is unknown, or when the webhook can't be reached: Fail refuses it, Ignore lets it
/// in and records it. Absent: Fail in mode Enforce, Ignore otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, strum::IntoStaticStr)]
pub enum FailurePolicy {
    /// Refuse.
    Fail,
    /// Let in, and record it.
    Ignore,
}

/// What becomes of images that no policy selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Unmatched {
    /// Let in.
    #[default]
    Allow,
    /// Refuse.
    Deny,
}

/// Resolve pins `tag@digest` on pods (and only on pods), Require refuses what is not pinned, Off leaves tags alone.
/// Absent: Resolve in mode Enforce, Off otherwise. Audit never changes a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Digests {
    /// Pin `tag@digest` on pods.
    Resolve,
    /// Refuse a pod whose image has no digest.
    Require,
    /// Leave it.
    Off,
}

/// A signature an image must carry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.threshold <= size(self.authorities)")
    .message("threshold asks for more signatures than there are authorities").field_path(".threshold"))]
pub struct Signature {
    /// Name of this requirement, as denials and `signedBy` give it.
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Who may sign: keys or identities.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub authorities: Vec<Authority>,
    /// How many different authorities must have signed.
    #[serde(default = "Signature::default_threshold")]
    #[schemars(range(min = 1, max = 8))]
    pub threshold: u32,
}

impl Signature {
    fn default_threshold() -> u32 {
        1
    }
}

/// Who may sign: exactly one of `key` and `keyless`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.key) != has(self.keyless)")
        .message("an authority is a key or a keyless identity: set exactly one of key and keyless"),
    validation = Rule::new("!has(self.keyless) || !has(self.transparencyLog) || self.transparencyLog == 'Require'")
        .message("keyless signatures live by the transparency log: transparencyLog Ignore goes with key only")
        .field_path(".transparencyLog"),
    validation = Rule::new("!has(self.trustRoot) || (has(self.key) && has(self.transparencyLog) && self.transparencyLog == 'Require')")
        .message("trustRoot beside key says which log is meant: it goes with transparencyLog Require; for keyless set keyless.trustRoot")
        .field_path(".trustRoot")
)]
pub struct Authority {
    /// A public key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// An identity that a certificate authority vouched for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keyless: Option<Keyless>,
    /// Whether a signature needs an entry in a transparency log. Absent: Ignore for a key, Require for keyless.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transparency_log: Option<TransparencyLog>,
    /// For a key with transparencyLog Require: the trusted root (Sigstore's trusted_root.json) that knows the log, in a
    /// ConfigMap of Zastava's namespace. Absent: the bundled public-good root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<TrustRootRef>,
}

/// A public key (P-256, P-384, Ed25519 or RSA): exactly one of its three places.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pem), has(self.secretRef), has(self.configMapRef)].filter(x, x).size() == 1")
    .message("a key is in exactly one place: set one of pem, secretRef and configMapRef"))]
pub struct Key {
    /// The key itself, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096), pattern(r"^\s*-----BEGIN PUBLIC KEY-----"))]
    pub pem: Option<String>,
    /// A Secret in Zastava's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyRef>,
    /// A ConfigMap in Zastava's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<KeyRef>,
}

/// An entry of a Secret or ConfigMap in Zastava's namespace.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the entry.
    #[serde(default = "KeyRef::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl KeyRef {
    fn default_key() -> String {
        "cosign.pub".to_owned()
    }
}

/// An identity in a short-lived certificate: issuer, and exactly one of subject and subjectGlob.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.subject) != has(self.subjectGlob)")
    .message("keyless needs an identity: set exactly one of subject and subjectGlob"))]
pub struct Keyless {
    /// OIDC issuer, exact.
    #[schemars(length(min = 1, max = 512), pattern("^https://"))]
    pub issuer: String,
    /// Subject (email or URI), exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: Option<String>,
    /// Subject as a glob, anchored at both ends: `*` stays within one path segment, `**` does not, all else is literal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject_glob: Option<String>,
    /// A trusted root (Sigstore's trusted_root.json) in a ConfigMap of Zastava's namespace. Absent: the bundled public-good root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<TrustRootRef>,
}

/// An entry of a ConfigMap in Zastava's namespace that holds a trusted root (Sigstore's trusted_root.json, 256 KiB at most).
/// Absent: the bundled public-good root.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustRootRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Name of the entry.
    #[serde(default = "TrustRootRef::default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

impl TrustRootRef {
    fn default_key() -> String {
        "trusted_root.json".to_owned()
    }
}

/// Whether a signature needs an entry in a transparency log. Absent: Ignore for a key, Require for keyless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TransparencyLog {
    /// No entry is looked at, no log is asked.
    Ignore,
    /// An entry must be there and true.
    Require,
}

/// The software bill of materials an image must carry.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sbom {
    /// Refuse an image without one. False: read where there is one (a scan does), not asked for.
    #[serde(default)]
    pub required: bool,
    /// Formats that are accepted. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub formats: Vec<SbomFormat>,
    /// Name of the entry of `signatures` whose authorities must have signed it. Absent: the only entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub signed_by: Option<String>,
    /// Oldest that is accepted, such as `720h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), pattern(r"^([0-9]+(h|m|s))+$"))]
    pub max_age: Option<String>,
}

/// A format of a bill of materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SbomFormat {
    /// CycloneDX JSON, 1.4 to 1.7.
    CycloneDX,
    /// SPDX JSON, 2.2 and 2.3.
    SPDX,
}

/// An in-toto attestation an image must carry.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attestation {
    /// Exact predicate type, such as `https://slsa.dev/provenance/v1`.
    #[schemars(length(min = 1, max = 255))]
    pub predicate_type: String,
    /// Name of the entry of `signatures` whose authorities must have signed it. Absent: the only entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub signed_by: Option<String>,
    /// CEL over `predicate`, `predicateType`, `subject` and `now`; each must be true. At most 4 KiB each, comprehensions
    /// nested at most twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 4096)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub conditions: Vec<String>,
}

/// The backend's word about an image.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.onUnavailable) || self.onUnavailable != 'LastKnown' || has(self.maxAge)")
        .message("onUnavailable LastKnown needs maxAge: how old a word may be").field_path(".maxAge"),
    validation = Rule::new("self.required || (!has(self.onUnavailable) && !has(self.maxAge))")
        .message("onUnavailable and maxAge speak for a verdict that is required: set required: true").field_path(".required")
)]
pub struct VerdictSpec {
    /// Refuse an image that the backend has not approved. False: its word is asked for and told, and refuses nothing.
    #[serde(default)]
    pub required: bool,
    /// What becomes of an image while the backend can't be asked: Deny, Allow, or LastKnown (the last word, up to
    /// maxAge). What it was last heard to fail is refused all the same. Absent: Deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_unavailable: Option<OnUnavailable>,
    /// Oldest word that is taken, such as `24h`, counted from when the backend last stood by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), pattern(r"^([0-9]+(h|m|s))+$"))]
    pub max_age: Option<String>,
}

/// What becomes of an image while the backend can't be asked: Deny, Allow, or LastKnown (the last word, up to
/// maxAge). What it was last heard to fail is refused all the same. Absent: Deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnUnavailable {
    /// Refuse.
    Deny,
    /// Let in.
    Allow,
    /// Take the last word, up to `maxAge`.
    LastKnown,
}
