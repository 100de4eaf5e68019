//! Names, labels and owners of what is built. Labels come from this fixed list, never from a parent.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::ConfigMap,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use sha2::{Digest, Sha256};

use super::super::installation::Installation;
use crate::{
    FIELD_MANAGER,
    certificates::{CA_KEY, TRUST_CONFIG_MAP, TrustBundle},
};

/// Annotation of a pod template: a changed hash is a new pod.
pub(super) const CONFIG_HASH: &str = "zastava.stella-ops.org/config-sha256";

/// A part of Zastava, as labels name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Component {
    /// The operator.
    Operator,
    /// The webhook.
    Webhook,
    /// The observer.
    Observer,
}

impl Component {
    /// Labels that select its pods: the chart's network policies use the same.
    pub fn selector(self) -> BTreeMap<String, String> {
        let component: &str = self.into();
        BTreeMap::from([
            ("app.kubernetes.io/name".to_owned(), "zastava".to_owned()),
            ("app.kubernetes.io/component".to_owned(), component.to_owned()),
        ])
    }

    /// The same as a selector.
    pub fn label_selector(self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector()), match_expressions: None }
    }

    /// All labels of an object or pod.
    pub fn labels(self, installation: &Installation) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        for (key, value) in
            [("version", installation.version.as_str()), ("part-of", "zastava"), ("managed-by", FIELD_MANAGER)]
        {
            labels.insert(format!("app.kubernetes.io/{key}"), value.to_owned());
        }
        labels
    }
}

/// Metadata of an object; without a namespace it is cluster-scoped.
pub fn metadata(
    installation: &Installation,
    component: Component,
    name: &str,
    namespace: Option<&str>,
    owner: &OwnerReference,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(component.labels(installation)),
        owner_references: Some(vec![owner.clone()]),
        ..ObjectMeta::default()
    }
}

/// The ConfigMap by which the intake is trusted.
pub(super) fn trust(
    installation: &Installation,
    owner: &OwnerReference,
    namespace: &str,
    bundle: &TrustBundle,
) -> ConfigMap {
    ConfigMap {
        metadata: metadata(installation, Component::Operator, TRUST_CONFIG_MAP, Some(namespace), owner),
        data: Some(BTreeMap::from([(CA_KEY.to_owned(), bundle.to_pem())])),
        ..ConfigMap::default()
    }
}

/// Hash of a configuration, for [`CONFIG_HASH`].
pub(super) fn config_hash(config: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(CONFIG_HASH.to_owned(), hex::encode(Sha256::digest(config)))])
}
