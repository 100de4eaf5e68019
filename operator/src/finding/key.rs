//! What makes two sightings the same finding, and its name.

use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};
use zastava_crds::{
    finding::{FindingType, RuntimeFinding, RuntimeFindingSpec},
    wire::report::WorkloadRef,
};

/// Longest part of a name that is there for people; the hash carries the identity.
const READABLE: usize = 40;
/// Bounds of the schema.
const MAX_WORKLOAD: usize = 253;
const MAX_SUBJECT: usize = 1024;

/// How sure the attribution is. It is part of the key: whatever a later attempt finds out, two groups of one batch
/// never share a finding, and so never a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Standing {
    /// The pod is or was there.
    Attributed,
    /// The pod was never seen.
    NeverSeen,
    /// The namespace takes no more objects.
    NamespaceGone,
}

/// Key of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FindingKey {
    /// Namespace of the workload.
    pub namespace: String,
    /// The workload.
    pub workload: WorkloadRef,
    /// Container.
    pub container: String,
    /// Type.
    pub type_: FindingType,
    /// Executed path, or image and requirement.
    pub subject: String,
    /// How sure that is.
    pub standing: Standing,
}

impl FindingKey {
    /// The object's name: `<type>-<workload>-<hash>`, a DNS label of at most 63 bytes, the same for ever.
    pub fn name(&self) -> String {
        let type_ = match self.type_ {
            FindingType::Drift => "drift",
            FindingType::Library => "library",
            FindingType::DeniedProcess => "process",
            FindingType::Admission => "admission",
            FindingType::Posture => "posture",
            FindingType::Exception => "exception",
        };
        let mut hash = Sha256::new();
        let standing: &'static str = self.standing.into();
        for part in
            [type_, standing, &self.namespace, &self.workload.kind, &self.workload.name, &self.container, &self.subject]
        {
            // Lengths go first, so that no two keys share their bytes.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        let hash = hex::encode(&hash.finalize()[..6]);
        let readable: String = self
            .workload
            .name
            .bytes()
            .map(|b| if b.is_ascii_lowercase() || b.is_ascii_digit() { char::from(b) } else { '-' })
            .take(READABLE)
            .collect();
        match readable.trim_matches('-') {
            "" => format!("{type_}-{hash}"),
            readable => format!("{type_}-{readable}-{hash}"),
        }
    }

    /// Where the object lies: with the workload, or with Zastava when that can't be.
    pub fn home<'a>(&'a self, own_namespace: &'a str) -> &'a str {
        match self.standing {
            Standing::Attributed => &self.namespace,
            Standing::NeverSeen | Standing::NamespaceGone => own_namespace,
        }
    }

    /// The same thing, when its namespace turns out to take no more objects.
    #[must_use]
    pub fn without_namespace(&self) -> Self {
        Self { standing: Standing::NamespaceGone, ..self.clone() }
    }

    /// The object without status.
    pub fn object(&self, own_namespace: &str) -> RuntimeFinding {
        let name = match self.standing {
            Standing::Attributed => self.workload.name.clone(),
            // Away from home, the workload says where it was.
            Standing::NeverSeen | Standing::NamespaceGone => format!("{}/{}", self.namespace, self.workload.name),
        };
        RuntimeFinding {
            metadata: ObjectMeta {
                name: Some(self.name()),
                namespace: Some(self.home(own_namespace).to_owned()),
                ..ObjectMeta::default()
            },
            spec: RuntimeFindingSpec {
                workload: WorkloadRef { kind: cut(&self.workload.kind, 63), name: cut(&name, MAX_WORKLOAD) },
                container: cut(&self.container, 63),
                type_: self.type_,
                subject: cut(&self.subject, MAX_SUBJECT),
                acknowledgement: None,
            },
            status: None,
        }
    }
}

/// At most `max` characters, the last of them an ellipsis where something was cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(workload: &str, subject: &str) -> FindingKey {
        FindingKey {
            namespace: "shop".into(),
            workload: WorkloadRef { kind: "Deployment".into(), name: workload.into() },
            container: "main".into(),
            type_: FindingType::Drift,
            subject: subject.into(),
            standing: Standing::Attributed,
        }
    }

    #[test]
    fn names_are_dns_labels_and_never_change() {
        assert_eq!(key("web", "/tmp/x").name(), "drift-web-5d62d47b5396");
        let long = "A.very_long.".repeat(30);
        for workload in ["web", "..", "", &long, "ünï"] {
            let name = key(workload, "/x").name();
            assert!(name.len() <= 63, "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
            assert!(!name.ends_with('-'), "{name}");
        }
    }

    #[test]
    fn what_differs_only_beyond_the_shown_part_is_still_two_findings() {
        let subject = "/x".repeat(600);
        let (one, two) = (key("web", &format!("{subject}1")), key("web", &format!("{subject}2")));
        assert_eq!(one.object("z").spec.subject, two.object("z").spec.subject);
        assert_eq!(one.object("z").spec.subject.chars().count(), MAX_SUBJECT);
        assert_ne!(one.name(), two.name());
        assert_ne!(one.name(), one.without_namespace().name());
    }

    #[test]
    fn away_from_home_the_workload_says_where_it_was() {
        let object = key("web", "/x").without_namespace().object("zastava-system");
        assert_eq!(object.metadata.namespace.as_deref(), Some("zastava-system"));
        assert_eq!(object.spec.workload.name, "shop/web");
    }
}
