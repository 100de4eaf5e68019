//! A Sigstore of one's own: certificate authority, transparency logs, timestamp authority, and the trusted root that
//! knows them. All keys are made by the test; all is signed at [`SIGNED_AT`].

mod authority;
mod der;
mod log;
mod timestamp;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;
use zastava_verify::requirement::{Inline, PolicyRequirements, TrustRoot, TrustStore};

pub use self::{
    authority::{Authority, Leaf, Window, authority, pem},
    log::{Log, Verifier},
    timestamp::Timestamper,
};
use super::signer::{SIGN, Signer, pae, statement};

/// When signatures are made.
pub const SIGNED_AT: i64 = 1_750_000_000;
/// Who signs, unless told otherwise.
pub const ISSUER: &str = "https://token.actions.githubusercontent.com";
/// As whom.
pub const WORKFLOW: &str = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1";

pub struct Sigstore {
    pub fulcio: Authority,
    pub rekor: Log,
    pub tsa: Timestamper,
}

impl Sigstore {
    pub fn new() -> Self {
        Self { fulcio: Authority::new(), rekor: Log::new(), tsa: Timestamper::new() }
    }

    /// A certificate for the workflow.
    pub fn workflow(&self) -> Leaf {
        self.fulcio.certify(ISSUER, WORKFLOW)
    }

    /// Its trusted_root.json.
    pub fn root(&self) -> Value {
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.rekor.trusted()],
            "certificateAuthorities": [self.fulcio.trusted()],
            "ctlogs": [],
            "timestampAuthorities": [self.tsa.trusted()],
        })
    }

    pub fn trust_root(&self) -> Arc<TrustRoot> {
        Arc::new(TrustRoot::from_json(&self.root().to_string()).unwrap())
    }

    /// A bundle v0.3 as cosign writes it: one certificate, Rekor v1 with promise and proof.
    pub fn bundle(&self, leaf: &Leaf, image: &Sha256Digest) -> Value {
        let envelope = leaf.envelope(image, SIGN);
        let entry = self.rekor.dsse(&envelope, &leaf.verifier());
        bundle(&leaf.certificate(), &[entry], &[], &envelope)
    }

    /// A policy that asks for the given authorities, under this trusted root.
    pub fn policy(&self, authorities: &Value, threshold: u32) -> Arc<PolicyRequirements> {
        Arc::new(self.requirements(authorities, threshold).unwrap().unwrap())
    }

    pub fn requirements(
        &self,
        authorities: &Value,
        threshold: u32,
    ) -> Result<Option<PolicyRequirements>, zastava_verify::requirement::RequirementError> {
        requirements(Some(self.trust_root()), authorities, threshold)
    }

    /// A policy that asks for the workflow.
    pub fn asks_for_workflow(&self) -> Arc<PolicyRequirements> {
        self.policy(&json!([keyless(&json!({"issuer": ISSUER, "subject": WORKFLOW}))]), 1)
    }
}

/// A keyless authority whose trusted root is in the ConfigMap that [`Store`] has.
pub fn keyless(identity: &Value) -> Value {
    let mut identity = identity.clone();
    identity["trustRoot"] = json!({"name": "root"});
    json!({"keyless": identity})
}

/// Requirements of one entry `release`.
pub fn requirements(
    root: Option<Arc<TrustRoot>>,
    authorities: &Value,
    threshold: u32,
) -> Result<Option<PolicyRequirements>, zastava_verify::requirement::RequirementError> {
    let signatures = json!([{"name": "release", "authorities": authorities, "threshold": threshold}]);
    let spec = serde_json::from_value(json!({"signatures": signatures})).unwrap();
    PolicyRequirements::from_spec("policy", "uid", 1, &spec, &Store { root })
}

/// Has one trusted root, in a ConfigMap `root`.
pub struct Store {
    pub root: Option<Arc<TrustRoot>>,
}

impl TrustStore for Store {
    fn key(&self, key: &zastava_crds::policy::Key) -> Result<String, String> {
        Inline.key(key)
    }

    fn trust_root(&self, reference: &zastava_crds::policy::TrustRootRef) -> Result<Arc<TrustRoot>, String> {
        assert_eq!((reference.name.as_str(), reference.key.as_str()), ("root", "trusted_root.json"));
        self.root.clone().ok_or_else(|| "no such ConfigMap".to_owned())
    }
}

impl Signer {
    /// The key as logs record it.
    pub fn verifier(&self) -> Verifier {
        let der: String = self.pem().lines().filter(|line| !line.starts_with('-')).collect();
        Verifier { pem: self.pem(), v2: json!({"publicKey": {"rawBytes": der}}) }
    }
}

impl Leaf {
    /// A DSSE envelope over a statement about an image.
    pub fn envelope(&self, image: &Sha256Digest, predicate_type: &str) -> Value {
        let payload = statement(image, predicate_type, &json!({})).to_string();
        self.seal(payload.as_bytes())
    }

    /// A DSSE envelope over anything.
    pub fn seal(&self, payload: &[u8]) -> Value {
        let payload_type = "application/vnd.in-toto+json";
        let signature = self.sign(&pae(payload_type, payload));
        json!({"payload": STANDARD.encode(payload), "payloadType": payload_type,
            "signatures": [{"sig": STANDARD.encode(signature)}]})
    }
}

/// A bundle v0.3.
pub fn bundle(material: &Value, entries: &[Value], timestamps: &[String], envelope: &Value) -> Value {
    let mut material = material.clone();
    material["tlogEntries"] = entries.into();
    if !timestamps.is_empty() {
        let timestamps: Vec<_> = timestamps.iter().map(|stamp| json!({"signedTimestamp": stamp})).collect();
        material["timestampVerificationData"] = json!({"rfc3161Timestamps": timestamps});
    }
    json!({"mediaType": super::signer::BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope})
}

/// The one signature of an envelope.
pub fn signature_of(envelope: &Value) -> Vec<u8> {
    STANDARD.decode(envelope["signatures"][0]["sig"].as_str().unwrap()).unwrap()
}
