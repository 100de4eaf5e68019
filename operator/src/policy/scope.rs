//! Which pods a policy speaks for.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use globset::{GlobSet, GlobSetBuilder};
use kube::core::{Selector, SelectorExt as _};
use zastava_crds::policy::{LabelSelector, MatchSpec};
use zastava_verify::image::{self, ImageReference};

use crate::pods::Pod;

type Labels = BTreeMap<String, String>;

/// Why a scope can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScopeError {
    /// The API server would refuse it in a webhook configuration, and with it every other policy.
    #[error("spec.match.{field}: {why}")]
    Selector {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A glob that does not compile.
    #[error("spec.match.images: {0}")]
    Glob(#[from] globset::Error),
}

impl ScopeError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Selector { .. } => "scope_selector",
            Self::Glob(_) => "scope_glob",
        }
    }
}

/// `spec.match`, compiled.
#[derive(Debug)]
pub struct Scope {
    namespaces: Selector,
    pods: Selector,
    images: Option<GlobSet>,
}

impl Scope {
    /// Compiles it.
    ///
    /// # Errors
    /// [`ScopeError`] names the field.
    pub fn new(spec: &MatchSpec) -> Result<Self, ScopeError> {
        let mut globs = GlobSetBuilder::new();
        for glob in &spec.images {
            globs.add(image::glob(glob)?);
        }
        Ok(Self {
            namespaces: selector("namespaceSelector", spec.namespace_selector.as_ref())?,
            pods: selector("podSelector", spec.pod_selector.as_ref())?,
            images: if spec.images.is_empty() { None } else { Some(globs.build()?) },
        })
    }

    /// The pods it speaks for, of those that have not ended; `namespaces` holds the labels of all that are not exempt.
    pub fn matched(
        &self,
        pods: &[Arc<Pod>],
        namespaces: &BTreeMap<String, Labels>,
        names: &mut Names,
    ) -> Vec<Arc<Pod>> {
        let of = |pod: &&Arc<Pod>| {
            !pod.finished
                && namespaces.get(&pod.namespace).is_some_and(|labels| self.namespaces.matches(labels))
                && self.pods.matches(&pod.labels)
                && self.images.as_ref().is_none_or(|globs| {
                    pod.containers.iter().any(|c| names.canonical(&c.image).is_some_and(|name| globs.is_match(name)))
                })
        };
        pods.iter().filter(of).cloned().collect()
    }
}

/// Canonical names of images, each worked out once.
#[derive(Debug, Default)]
pub struct Names(HashMap<String, Option<String>>);

impl Names {
    fn canonical(&mut self, image: &str) -> Option<&str> {
        if !self.0.contains_key(image) {
            let name = image.parse::<ImageReference>().ok().map(|reference| reference.canonical());
            self.0.insert(image.to_owned(), name);
        }
        self.0.get(image)?.as_deref()
    }
}

fn selector(field: &'static str, spec: Option<&LabelSelector>) -> Result<Selector, ScopeError> {
    let Some(spec) = spec else { return Ok(Selector::default()) };
    let wrong = |why: String| ScopeError::Selector { field, why };
    for (key, value) in spec.match_labels.iter().flatten() {
        check_key(key).and_then(|()| check_value(value)).map_err(wrong)?;
    }
    for requirement in spec.match_expressions.iter().flatten() {
        check_key(&requirement.key).map_err(wrong)?;
        let values = requirement.values.as_deref().unwrap_or_default();
        let listed = matches!(requirement.operator.as_str(), "In" | "NotIn");
        if listed == values.is_empty() {
            return Err(wrong(format!("operator {} with {} values", requirement.operator, values.len())));
        }
        values.iter().try_for_each(|value| check_value(value)).map_err(wrong)?;
    }
    Selector::try_from(spec.clone()).map_err(|error| wrong(error.to_string()))
}

fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let subdomain = |prefix: &str| {
        prefix.len() <= 253
            && prefix.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    };
    let good = !name.is_empty() && is_label(name) && prefix.is_none_or(subdomain);
    if good { Ok(()) } else { Err(format!("{key:?} is no key of a label")) }
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label(value) { Ok(()) } else { Err(format!("{value:?} is no value of a label")) }
}

fn is_label(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && ends(text.chars().next())
        && ends(text.chars().last())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zastava_crds::wire::report::WorkloadRef;

    use super::*;
    use crate::pods::PodContainer;

    fn pod(namespace: &str, app: &str, image: &str) -> Arc<Pod> {
        Arc::new(Pod {
            uid: format!("{namespace}-{app}"),
            namespace: namespace.into(),
            name: app.into(),
            node: Some("n1".into()),
            labels: BTreeMap::from([("app".into(), app.into())]),
            workload: WorkloadRef { kind: "Pod".into(), name: app.into() },
            containers: vec![PodContainer { name: "main".into(), image: image.into(), image_id: None }],
            image_volumes: Vec::new(),
            finished: false,
        })
    }

    fn scope(spec: Value) -> Result<Scope, ScopeError> {
        Scope::new(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn all_given_parts_must_match() {
        let mut ended = (*pod("shop", "web", "nginx")).clone();
        ended.finished = true;
        let pods = [
            pod("shop", "web", "nginx"),
            pod("shop", "db", "registry.example/prod/db:1"),
            pod("bank", "web", "registry.example/prod/team/web@sha256:1"),
            pod("kube-system", "web", "nginx"),
            Arc::new(ended),
        ];
        let team = |team: &str| BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let namespaces = BTreeMap::from([("shop".to_owned(), team("a")), ("bank".to_owned(), team("b"))]);
        let matched = |spec: Value| {
            let matched = scope(spec).unwrap().matched(&pods, &namespaces, &mut Names::default());
            matched.iter().map(|pod| pod.uid.clone()).collect::<Vec<_>>()
        };
        assert_eq!(matched(json!({})), ["shop-web", "shop-db", "bank-web"]);
        assert_eq!(matched(json!({"namespaceSelector": {"matchLabels": {"team": "a"}}})), ["shop-web", "shop-db"]);
        assert_eq!(matched(json!({"podSelector": {"matchLabels": {"app": "web"}}})), ["shop-web", "bank-web"]);
        assert_eq!(matched(json!({"images": ["docker.io/library/*"]})), ["shop-web"]);
        assert_eq!(matched(json!({"images": ["registry.example/prod/*"]})), ["shop-db"]);
    }

    #[test]
    fn what_the_api_server_would_refuse_names_its_field() {
        let bad = [
            json!({"namespaceSelector": {"matchLabels": {"a b": "c"}}}),
            json!({"namespaceSelector": {"matchLabels": {"a": "-c"}}}),
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}),
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}}),
            json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "Is", "values": []}]}}),
            json!({"namespaceSelector": {"matchLabels": {"Upper.example/a": "c"}}}),
        ];
        for spec in bad {
            let error = scope(spec.clone()).unwrap_err();
            assert!(matches!(error, ScopeError::Selector { field: "namespaceSelector", .. }), "{spec}: {error}");
        }
        assert!(scope(json!({"podSelector": {"matchLabels": {"app.kubernetes.io/name": ""}}})).is_ok());
        assert!(matches!(scope(json!({"images": ["a[b"]})), Err(ScopeError::Glob(_))));
    }
}
