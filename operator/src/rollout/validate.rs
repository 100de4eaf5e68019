//! From all policies to one plan: which of them are in force, and what they ask for together.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt as _;
use zastava_crds::{
    digest::Sha256Digest,
    policy::{
        AdmissionSpec, Digests, ExceptionMatch, FailurePolicy, LabelSelector, MatchSpec, Mode, PolicyException,
        Unmatched, ZastavaPolicy, supported::unsupported_fields,
    },
};
use zastava_verify::requirement;

use super::{globs, installation::Installation};
use crate::policy::Scope;

/// Why a policy is not in force at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `spec.suspend`.
    Suspended,
    /// It breaks a rule of the schema, though it is stored: it is from before the rule.
    Invalid(String),
    /// Fields that this version can't honour.
    NotSupported(Vec<String>),
}

/// Whether a policy is in force, by its own words alone.
///
/// # Errors
/// [`Refusal`] says why it is not.
pub fn in_force(policy: &ZastavaPolicy) -> Result<(), Refusal> {
    if policy.spec.suspend {
        return Err(Refusal::Suspended);
    }
    if let Err(errors) = policy.validate_cel() {
        return Err(Refusal::Invalid(errors.to_string()));
    }
    // The API server would refuse a configuration with a bad selector, and with it every other policy.
    if let Err(error) = Scope::new(&policy.spec.match_) {
        return Err(Refusal::Invalid(error.to_string()));
    }
    if let Some(Err(error)) = policy.spec.runtime.as_ref().map(globs::check) {
        return Err(Refusal::Invalid(error.to_string()));
    }
    // No schema can say which conditions compile, and which base images can be shown.
    if let Some(Err(error)) = policy.spec.admission.as_ref().map(requirement::check) {
        return Err(Refusal::Invalid(format!("spec.admission.{error}")));
    }
    let fields = unsupported_fields(&policy.spec);
    if fields.is_empty() { Ok(()) } else { Err(Refusal::NotSupported(fields)) }
}

/// What all policies ask for together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Policies in force with `runtime`: they need the observer.
    pub observed_by: usize,
    /// Some of them kills.
    pub kills: bool,
    /// Policies in force with `admission`, sorted by name: they need the webhook.
    pub gates: Vec<Gate>,
    /// What holds without the webhook, sorted by name.
    pub guards: Vec<Guard>,
    /// When the first exemption from a guard ends.
    pub exemption_ends: Option<Timestamp>,
}

/// What one policy asks of a pod that the API server can see by itself: that its images are written with digests.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Name of the policy.
    pub name: String,
    /// Whether it is needed beside a webhook configuration: where that one lets in what it can't ask about.
    pub always: bool,
    /// Which pods and images it is about.
    pub scope: MatchSpec,
    /// Exceptions that hold now.
    pub exemptions: Vec<Exemption>,
}

/// An exception as a guard looks at it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemption {
    /// Names of namespaces; empty: all.
    pub namespaces: Vec<String>,
    /// On the pod's labels.
    pub pod_selector: Option<LabelSelector>,
    /// Globs on the image; absent: every image.
    pub images: Option<Vec<String>>,
}

/// What the webhook configuration says of one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// Name of the policy.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its generation, so that a status can tell which one is deployed.
    pub generation: i64,
    /// What becomes of a request while the webhook can't be reached.
    pub failure_policy: FailurePolicy,
    /// On the namespace's labels.
    pub namespace_selector: Option<LabelSelector>,
    /// On the pod's labels.
    pub pod_selector: Option<LabelSelector>,
    /// Globs on the images; empty: every image.
    pub images: Vec<String>,
    /// Deny: what no policy selects is asked about as well.
    pub unmatched: Unmatched,
    /// It wants digests pinned.
    pub pins: bool,
}

impl Plan {
    /// The policies that want digests pinned.
    pub fn pinning(&self) -> impl Iterator<Item = &Gate> {
        self.gates.iter().filter(|gate| gate.pins)
    }
}

/// Joins all policies into one plan. The break-glass of the settings leaves no gate and no guard.
pub fn plan(policies: &[Arc<ZastavaPolicy>], installation: &Installation, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut sorted: Vec<_> = policies.iter().filter(|p| p.metadata.deletion_timestamp.is_none()).collect();
    sorted.sort_by_key(|p| p.name_any());
    for policy in sorted.into_iter().filter(|policy| in_force(policy).is_ok()) {
        let spec = &policy.spec;
        if spec.runtime.is_some() {
            plan.observed_by += 1;
            plan.kills |= spec.kills();
        }
        let (Some(admission), Some(uid)) = (&spec.admission, policy.uid()) else { continue };
        if !installation.webhook.enabled {
            continue;
        }
        let failure_policy = admission.failure_policy.unwrap_or(match spec.mode {
            Mode::Enforce => FailurePolicy::Fail,
            Mode::Audit | Mode::Warn => FailurePolicy::Ignore,
        });
        plan.gates.push(Gate {
            name: policy.name_any(),
            uid,
            generation: policy.metadata.generation.unwrap_or_default(),
            failure_policy,
            namespace_selector: spec.match_.namespace_selector.clone(),
            pod_selector: spec.match_.pod_selector.clone(),
            images: spec.match_.images.clone(),
            unmatched: admission.unmatched,
            pins: pins(spec.mode, admission),
        });
        // Only what is written can be seen without the webhook, and only Require asks for what is written.
        if spec.mode == Mode::Enforce && admission.digests == Some(Digests::Require) {
            let holding: Vec<_> = spec.exceptions.iter().filter(|exception| now < exception.expires.0).collect();
            plan.exemption_ends = holding.iter().map(|e| e.expires.0).chain(plan.exemption_ends).min();
            plan.guards.push(Guard {
                name: policy.name_any(),
                always: failure_policy == FailurePolicy::Ignore,
                scope: spec.match_.clone(),
                exemptions: holding.into_iter().filter_map(exemption).collect(),
            });
        }
    }
    plan
}

/// None where an exception can cover nothing that a guard refuses.
fn exemption(exception: &PolicyException) -> Option<Exemption> {
    let ExceptionMatch { namespaces, pod_selector, images, paths } = &exception.match_;
    // A digest is not written in what has none.
    let globs: Vec<_> = images.iter().filter(|image| image.parse::<Sha256Digest>().is_err()).cloned().collect();
    if !paths.is_empty() || (globs.is_empty() && !images.is_empty()) {
        return None;
    }
    Some(Exemption {
        namespaces: namespaces.clone(),
        pod_selector: pod_selector.clone(),
        images: (!globs.is_empty()).then_some(globs),
    })
}

fn pins(mode: Mode, admission: &AdmissionSpec) -> bool {
    match mode {
        Mode::Audit => false,
        Mode::Warn => admission.digests == Some(Digests::Resolve),
        Mode::Enforce => matches!(admission.digests, None | Some(Digests::Resolve)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn policy(name: &str, spec: &serde_json::Value) -> ZastavaPolicy {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "zastava.stella-ops.org/v1alpha1",
            "kind": "ZastavaPolicy",
            "metadata": {"name": name, "uid": format!("uid-of-{name}"), "generation": 3},
            "spec": spec,
        }))
        .unwrap()
    }

    pub fn keyed(mode: &str) -> serde_json::Value {
        serde_json::json!({"mode": mode, "admission": {"signatures": [{"name": "release", "authorities": [
            {"key": {"pem": "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"}}]}]}})
    }

    fn planned(specs: &[(&str, serde_json::Value)], enabled: bool) -> Plan {
        let policies: Vec<_> = specs.iter().map(|(name, spec)| Arc::new(policy(name, spec))).collect();
        let mut installation = Installation::default();
        installation.webhook.enabled = enabled;
        plan(&policies, &installation, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn nothing_is_deployed_that_no_policy_asks_for() {
        assert_eq!(planned(&[], true), Plan::default());
        let plan = planned(&[("a", serde_json::json!({"runtime": {}}))], true);
        assert_eq!((plan.observed_by, plan.gates.len(), plan.kills), (1, 0, false));
        let plan = planned(&[("a", keyed("Enforce"))], true);
        assert_eq!((plan.observed_by, plan.gates.len(), plan.pinning().count()), (0, 1, 1));
    }

    #[test]
    fn suspended_and_refused_policies_and_the_break_glass_leave_no_gate() {
        let mut suspended = keyed("Enforce");
        suspended["suspend"] = true.into();
        assert_eq!(planned(&[("a", suspended)], true), Plan::default());
        let mut unusable = keyed("Enforce");
        unusable["admission"]["baseImages"] = serde_json::json!(["registry.example/base:1"]);
        assert_eq!(planned(&[("a", unusable)], true), Plan::default());
        assert_eq!(planned(&[("a", keyed("Enforce"))], false), Plan::default());
    }

    #[test]
    fn refusals_name_the_field_or_the_rule() {
        let unsupported = policy("a", &serde_json::json!({"runtime": {}, "scan": {"on": ["Posture"]}}));
        assert_eq!(in_force(&unsupported).unwrap_err(), Refusal::NotSupported(vec!["spec.scan.on: Posture".into()]));
        let exception = serde_json::json!({"name": "e", "reason": "r", "expires": "2999-01-01T00:00:00Z",
            "match": {"paths": ["/bin/sh"]}});
        let unsupported = policy("a", &serde_json::json!({"runtime": {}, "exceptions": [exception]}));
        let field = "spec.exceptions.match.paths".to_owned();
        assert_eq!(in_force(&unsupported).unwrap_err(), Refusal::NotSupported(vec![field]));
        let bad = policy("bad", &serde_json::json!({"runtime": {"processes": {"deny": ["/a[b"]}}}));
        assert!(matches!(in_force(&bad), Err(Refusal::Invalid(why)) if why.contains("spec.runtime.processes.deny")));
        let Refusal::Invalid(message) = in_force(&policy("a", &serde_json::json!({}))).unwrap_err() else {
            panic!("an empty policy is invalid")
        };
        assert!(message.contains("set spec.admission or spec.runtime"), "{message}");
        let selector = serde_json::json!({"podSelector": {"matchLabels": {"a": "not a value"}}});
        let unusable = policy("a", &serde_json::json!({"runtime": {}, "match": selector}));
        let conditions = serde_json::json!(["true", "predicat.builder.id == 'x'"]);
        let attested = serde_json::json!({"admission": {"signatures": keyed("Audit")["admission"]["signatures"],
            "attestations": [{"predicateType": "https://slsa.dev/provenance/v1", "conditions": conditions}]}});
        let Refusal::Invalid(message) = in_force(&policy("a", &attested)).unwrap_err() else {
            panic!("the condition can't be compiled")
        };
        assert!(
            message.starts_with("spec.admission.attestations[0].conditions[1] names predicat, which is not known"),
            "{message}"
        );
        let Refusal::Invalid(message) = in_force(&unusable).unwrap_err() else { panic!("the selector is invalid") };
        assert!(message.starts_with("spec.match.podSelector"), "{message}");
    }

    #[test]
    fn failure_policy_follows_the_mode_unless_it_is_written() {
        let mut written = keyed("Audit");
        written["admission"]["failurePolicy"] = "Fail".into();
        let plan = planned(&[("c", written), ("b", keyed("Warn")), ("a", keyed("Enforce"))], true);
        let told: Vec<_> = plan.gates.iter().map(|g| (g.name.as_str(), g.failure_policy)).collect();
        assert_eq!(told, [("a", FailurePolicy::Fail), ("b", FailurePolicy::Ignore), ("c", FailurePolicy::Fail)]);
        assert_eq!(plan.pinning().count(), 1);
    }

    #[test]
    fn killing_is_asked_for_by_enforce_and_kill_together() {
        let spec = |mode: &str| serde_json::json!({"mode": mode, "runtime": {"drift": {"action": "Kill"}}});
        assert!(planned(&[("a", spec("Enforce"))], true).kills);
        assert!(!planned(&[("a", spec("Warn"))], true).kills);
    }
}
