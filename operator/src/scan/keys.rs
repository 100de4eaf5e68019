//! Whose signature on a bill of materials counts, with keys and trust roots read at the moment of use.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt as _};
use zastava_crds::policy::{AdmissionSpec, Authority, Key, Signature, TrustRootRef, ZastavaPolicy};
use zastava_verify::requirement::{PolicyRequirements, SignatureRequirement, TrustRoot, TrustStore};

use super::{source::Unavailable, terms::is_in_force};

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Who must have signed: of the first of these policies, in their order, that says so.
pub(super) struct Signers {
    /// Name of the policy.
    pub(super) policy: String,
    signature: Signature,
}

impl Signers {
    /// `None`: no policy in force says who signs.
    pub(super) fn of(policies: &[Arc<ZastavaPolicy>], names: &[String]) -> Option<Self> {
        let in_force = |name: &String| policies.iter().find(|policy| policy.name_any() == *name && is_in_force(policy));
        names.iter().filter_map(in_force).find_map(|policy| {
            let spec = policy.spec.admission.as_ref()?;
            let signature = match (spec.sbom.as_ref().and_then(|sbom| sbom.signed_by.as_ref()), &spec.signatures[..]) {
                (Some(name), all) => all.iter().find(|signature| signature.name == *name)?,
                (None, [only]) => only,
                (None, _) => return None,
            };
            Some(Self { policy: policy.name_any(), signature: signature.clone() })
        })
    }

    /// Name of the entry of `signatures`.
    pub(super) fn name(&self) -> &str {
        &self.signature.name
    }

    /// With its keys.
    ///
    /// # Errors
    /// [`Unavailable`] when a key can't be read: somebody may put it there.
    pub(super) async fn requirement(
        &self,
        client: &Client,
        namespace: &str,
    ) -> Result<Arc<SignatureRequirement>, Unavailable> {
        let mut held = Held::default();
        for place in self.signature.authorities.iter().flat_map(places) {
            let text = read(client, namespace, &place).await.map_err(|why| {
                let message = format!("policy {}, signatures[{}]: {why}", self.policy, self.signature.name);
                Unavailable { category: "key", message, retry_after: None }
            })?;
            held.texts.insert(place, text);
        }
        self.assemble(&held)
    }

    fn assemble(&self, store: &impl TrustStore) -> Result<Arc<SignatureRequirement>, Unavailable> {
        let unusable = |why: String| Unavailable { category: "key", message: why, retry_after: None };
        // The one entry alone: a key of another that can't be read is no reason not to scan.
        let spec = AdmissionSpec { signatures: vec![self.signature.clone()], ..AdmissionSpec::default() };
        let requirements = PolicyRequirements::from_spec(&self.policy, "", 0, &spec, store)
            .map_err(|error| unusable(format!("policy {}: {error}", self.policy)))?;
        let signature = requirements.and_then(|all| all.signatures().first().cloned());
        signature.map(Arc::new).ok_or_else(|| unusable(format!("policy {} asks for no signature", self.policy)))
    }
}

/// An entry of an object in Zastava's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    kind: Kind,
    object: String,
    entry: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Secret,
    ConfigMap,
}

fn place_of_key(key: &Key) -> Option<Place> {
    let secret = key.secret_ref.as_ref().map(|reference| (Kind::Secret, reference));
    let (kind, reference) = secret.or_else(|| key.config_map_ref.as_ref().map(|r| (Kind::ConfigMap, r)))?;
    Some(Place { kind, object: reference.name.clone(), entry: reference.key.clone() })
}

fn place_of_root(root: &TrustRootRef) -> Place {
    Place { kind: Kind::ConfigMap, object: root.name.clone(), entry: root.key.clone() }
}

/// All that an authority refers to.
fn places(authority: &Authority) -> impl Iterator<Item = Place> {
    let keyless = authority.keyless.as_ref().and_then(|keyless| keyless.trust_root.as_ref());
    let roots = [authority.trust_root.as_ref(), keyless];
    authority.key.as_ref().and_then(place_of_key).into_iter().chain(roots.into_iter().flatten().map(place_of_root))
}

/// What was read.
#[derive(Default)]
struct Held {
    texts: BTreeMap<Place, String>,
}

impl Held {
    fn text(&self, place: &Place) -> Result<String, String> {
        self.texts.get(place).cloned().ok_or_else(|| "was not read".to_owned())
    }
}

impl TrustStore for Held {
    fn key(&self, key: &Key) -> Result<String, String> {
        match (&key.pem, place_of_key(key)) {
            (Some(pem), _) => Ok(pem.clone()),
            (None, Some(place)) => self.text(&place),
            (None, None) => Err("names no key: set one of pem, secretRef and configMapRef".to_owned()),
        }
    }

    fn trust_root(&self, reference: &TrustRootRef) -> Result<Arc<TrustRoot>, String> {
        let text = self.text(&place_of_root(reference))?;
        TrustRoot::from_json(&text).map(Arc::new).map_err(|error| error.to_string())
    }
}

async fn read(client: &Client, namespace: &str, place: &Place) -> Result<String, String> {
    let Place { kind, object: name, entry } = place;
    let (object, value) = match kind {
        Kind::Secret => (format!("Secret {namespace}/{name}"), "admission.keySecrets"),
        Kind::ConfigMap => (format!("ConfigMap {namespace}/{name}"), "admission.keyConfigMaps"),
    };
    let text = async {
        Ok::<_, kube::Error>(match kind {
            Kind::Secret => {
                let secret: Option<Secret> = Api::namespaced(client.clone(), namespace).get_opt(name).await?;
                secret.map(|secret| secret.data.and_then(|mut data| data.remove(entry)).map(|bytes| bytes.0))
            }
            Kind::ConfigMap => {
                let map: Option<ConfigMap> = Api::namespaced(client.clone(), namespace).get_opt(name).await?;
                map.map(|map| map.data.and_then(|mut data| data.remove(entry)).map(String::into_bytes))
            }
        })
    };
    match tokio::time::timeout(READ_TIMEOUT, text).await {
        Ok(Ok(Some(Some(bytes)))) => String::from_utf8(bytes).map_err(|_| format!("{object}: {entry:?} is no text")),
        Ok(Ok(Some(None))) => Err(format!("{object} has no entry {entry:?}")),
        Ok(Ok(None)) => Err(format!("{object} does not exist: create it")),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            Err(format!("{object} can't be read: list it in {value} of the chart's values"))
        }
        Ok(Err(error)) => Err(format!("{object} can't be read: {error}")),
        Err(_) => Err(format!("{object} was not read in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, admission: &serde_json::Value) -> Arc<ZastavaPolicy> {
        let spec = serde_json::json!({"runtime": {}, "admission": admission});
        Arc::new(ZastavaPolicy::new(name, serde_json::from_value(spec).unwrap()))
    }

    fn signature(name: &str) -> serde_json::Value {
        serde_json::json!({"name": name, "authorities": [{"key": {"secretRef": {"name": "cosign"}}}]})
    }

    fn chosen(policies: &[Arc<ZastavaPolicy>], names: &[&str]) -> Option<String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        Signers::of(policies, &names).map(|signers| format!("{}/{}", signers.policy, signers.signature.name))
    }

    #[test]
    fn the_entry_that_sbom_names_or_the_only_one_says_who_signs() {
        let policies = [
            policy("only", &serde_json::json!({"signatures": [signature("release")]})),
            policy(
                "named",
                &serde_json::json!({"signatures": [signature("a"), signature("b")], "sbom": {"signedBy": "b"}}),
            ),
            policy("open", &serde_json::json!({"signatures": [signature("a"), signature("b")]})),
            policy("digests", &serde_json::json!({"digests": "Require"})),
        ];
        assert_eq!(chosen(&policies, &["only"]).as_deref(), Some("only/release"));
        assert_eq!(chosen(&policies, &["named"]).as_deref(), Some("named/b"));
        assert_eq!(chosen(&policies, &["open", "digests", "gone"]), None);
        assert_eq!(chosen(&policies, &["open", "named", "only"]).as_deref(), Some("named/b"));
    }

    #[test]
    fn a_suspended_policy_says_nothing() {
        let mut suspended = policy("only", &serde_json::json!({"signatures": [signature("release")]}));
        Arc::make_mut(&mut suspended).spec.suspend = true;
        assert_eq!(chosen(&[suspended], &["only"]), None);
    }

    #[test]
    fn a_text_that_is_no_key_is_told_with_its_place() {
        let policies = [policy("only", &serde_json::json!({"signatures": [signature("release")]}))];
        let signers = Signers::of(&policies, &["only".to_owned()]).unwrap();
        let place = Place { kind: Kind::Secret, object: "cosign".to_owned(), entry: "cosign.pub".to_owned() };
        let held = Held { texts: [(place, "no key".to_owned())].into() };
        let error = signers.assemble(&held).unwrap_err();
        assert!(error.message.contains("policy only") && error.message.contains("signatures[release]"), "{error}");
    }
}
