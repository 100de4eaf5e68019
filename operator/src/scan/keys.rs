//! Whose signature on a bill of materials counts, with keys read at the moment of use.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt as _};
use zastava_crds::policy::{AdmissionSpec, Key, KeyRef, Signature, ZastavaPolicy};
use zastava_verify::requirement::{PolicyRequirements, SignatureRequirement};

use super::{source::Unavailable, terms::is_in_force};

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Who must have signed: of the first of these policies, in their order, that says so.
pub(super) struct Signers {
    /// Name of the policy.
    pub(super) policy: String,
    spec: AdmissionSpec,
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
            Some(Self { policy: policy.name_any(), spec: spec.clone(), signature: signature.clone() })
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
        let mut pems = BTreeMap::new();
        for key in self.signature.authorities.iter().filter_map(|authority| authority.key.as_ref()) {
            if let Some((source, entry)) = source(key) {
                let pem = read(client, namespace, source, entry).await.map_err(|why| {
                    let message = format!("policy {}, signatures[{}]: {why}", self.policy, self.signature.name);
                    Unavailable { category: "key", message, retry_after: None }
                })?;
                pems.insert((source, entry.key.clone()), pem);
            }
        }
        self.assemble(|key| match (&key.pem, source(key)) {
            (Some(pem), _) => Ok(pem.clone()),
            (None, Some((source, entry))) => {
                pems.get(&(source, entry.key.clone())).cloned().ok_or_else(|| "was not read".to_owned())
            }
            (None, None) => Err("names no key: set one of pem, secretRef and configMapRef".to_owned()),
        })
    }

    fn assemble(
        &self,
        resolve: impl FnMut(&Key) -> Result<String, String>,
    ) -> Result<Arc<SignatureRequirement>, Unavailable> {
        let unusable = |why: String| Unavailable { category: "key", message: why, retry_after: None };
        // The one entry alone: a key of another that can't be read is no reason not to scan.
        let spec = AdmissionSpec { signatures: vec![self.signature.clone()], sbom: None, ..self.spec.clone() };
        let requirements = PolicyRequirements::from_spec(&self.policy, "", 0, &spec, resolve)
            .map_err(|error| unusable(format!("policy {}: {error}", self.policy)))?;
        let signature = requirements.and_then(|all| all.signatures().first().cloned());
        signature.map(Arc::new).ok_or_else(|| unusable(format!("policy {} asks for no signature", self.policy)))
    }
}

/// An object that holds keys, in Zastava's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source<'a> {
    Secret(&'a str),
    ConfigMap(&'a str),
}

fn source(key: &Key) -> Option<(Source<'_>, &KeyRef)> {
    let secret = key.secret_ref.as_ref().map(|r| (Source::Secret(&r.name), r));
    secret.or_else(|| key.config_map_ref.as_ref().map(|r| (Source::ConfigMap(&r.name), r)))
}

async fn read(client: &Client, namespace: &str, source: Source<'_>, entry: &KeyRef) -> Result<String, String> {
    let (name, object, value) = match source {
        Source::Secret(name) => (name, format!("Secret {namespace}/{name}"), "admission.keySecrets"),
        Source::ConfigMap(name) => (name, format!("ConfigMap {namespace}/{name}"), "admission.keyConfigMaps"),
    };
    let text = async {
        Ok::<_, kube::Error>(match source {
            Source::Secret(_) => {
                let secret: Option<Secret> = Api::namespaced(client.clone(), namespace).get_opt(name).await?;
                secret.map(|secret| secret.data.and_then(|mut data| data.remove(&entry.key)).map(|bytes| bytes.0))
            }
            Source::ConfigMap(_) => {
                let map: Option<ConfigMap> = Api::namespaced(client.clone(), namespace).get_opt(name).await?;
                map.map(|map| map.data.and_then(|mut data| data.remove(&entry.key)).map(String::into_bytes))
            }
        })
    };
    match tokio::time::timeout(READ_TIMEOUT, text).await {
        Ok(Ok(Some(Some(bytes)))) => {
            String::from_utf8(bytes).map_err(|_| format!("{object}: {:?} is no PEM public key", entry.key))
        }
        Ok(Ok(Some(None))) => Err(format!("{object} has no entry {:?}", entry.key)),
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
        let error = signers.assemble(|_| Ok("no key".to_owned())).unwrap_err();
        assert!(error.message.contains("policy only") && error.message.contains("signatures[release]"), "{error}");
    }
}
