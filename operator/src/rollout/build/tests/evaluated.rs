//! Expressions as the API server evaluates them, held against what the webhook would say.

use globset::GlobSetBuilder;
use kube::core::cel::{AdmissionRequest, VapEvaluator, VapExpression};
use serde_json::{Value, json};
use zastava_verify::image::{self, ImageReference};

use super::{built, gate, installation, owners, plan, webhooks};
use crate::rollout::{
    build::{
        GuardResources,
        expression::{images_changed, text},
        guard,
        written::{may_match, must_match},
    },
    validate::{self, Gate, Plan, tests::policy},
};

/// A request as it reaches the API server's evaluator.
struct Asked<'a> {
    object: &'a Value,
    old: Option<&'a Value>,
    namespace: Value,
}

impl<'a> Asked<'a> {
    fn created(object: &'a Value) -> Self {
        Self { object, old: None, namespace: json!({"metadata": {"name": "shop"}}) }
    }

    fn updated(object: &'a Value, old: &'a Value) -> Self {
        Self { old: Some(old), ..Self::created(object) }
    }

    /// Whether it holds, and the message if not. An error is no answer.
    fn holds(&self, expression: &str, message: Option<&str>) -> (bool, String) {
        let request = AdmissionRequest {
            operation: if self.old.is_some() { "UPDATE" } else { "CREATE" }.to_owned(),
            namespace: "shop".to_owned(),
            ..AdmissionRequest::default()
        };
        let builder = VapEvaluator::builder().object(self.object.clone()).request(request);
        let builder = builder.namespace_object(self.namespace.clone());
        let builder = if let Some(old) = self.old { builder.old_object(old.clone()) } else { builder };
        let asked = VapExpression {
            expression: expression.to_owned(),
            message: None,
            message_expression: message.map(str::to_owned),
        };
        let [result] = builder.build().evaluate(&[asked]).try_into().unwrap();
        let message = result.message.unwrap_or_default();
        assert!(!message.starts_with("evaluation error") && !message.starts_with("failed to compile"), "{message}");
        (result.passed, message)
    }
}

fn pod(image: &str) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn pinned(name: &str) -> String {
    format!("{name}@sha256:{}", "a".repeat(64))
}

fn selected(globs: &[&str], reference: &str) -> Option<bool> {
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        set.add(image::glob(glob).unwrap());
    }
    let name = reference.parse::<ImageReference>().ok()?.canonical();
    Some(set.build().unwrap().is_match(name))
}

const GLOBS: &[&[&str]] = &[
    &["registry.example/prod/**"],
    &["registry.example/prod/*"],
    &["registry.example/prod/app"],
    &["registry.example/pro?/app", "other.example:5000/**"],
    &["registry.example/**/app", "localhost/*"],
    &["docker.io/library/nginx", "docker.io/**"],
    &["index.docker.io/library/*"],
    &["registry.example:443/**"],
    &["Registry.Example/**"],
    &["registry.example/[a-p]rod/**"],
    &["registry.{example,test}/prod/**"],
    &["**/prod/app"],
    &["**"],
    &["it's/**", "back\\slash/**"],
];

const REFERENCES: &[&str] = &[
    "registry.example/prod/app:1",
    "registry.example/prod/app",
    "registry.example/prod/team/app:1",
    "registry.example/prod/application",
    "registry.example/prod",
    "registry.example/production/app",
    "registry.example/test/app:1",
    "registry.example:443/prod/app:1",
    "registry.example:5000/prod/app:1",
    "Registry.Example/prod/app:1",
    "REGISTRY.EXAMPLE/prod/app:1",
    "registry.test/prod/app",
    "other.example:5000/a/b:tag",
    "evil.example/registry.example/prod/app",
    "nginx",
    "nginx:1",
    "library/nginx",
    "docker.io/nginx",
    "docker.io/library/nginx:1",
    "index.docker.io/library/nginx:1",
    "registry-1.docker.io/library/nginx:1",
    "registry.hub.docker.com/library/nginx:1",
    "localhost/app",
    "localhost:5000/app:2",
    "host:5000/app",
    "prod/app",
    "team/prod/app:1",
    "registry.example/prod/App",
    "registry.example/prod//app",
    "registry.example/prod/app:",
    "registry.example/prod/app@sha256:abc",
    "registry.example/prod/app\nregistry.example/x",
    " registry.example/prod/app",
    "registry.example./prod/app",
    "",
    "it's/app",
];

#[test]
fn what_is_skipped_is_an_image_that_the_policy_does_not_select() {
    let mut skipped = 0;
    for globs in GLOBS {
        let Some(may) = may_match(globs.iter().copied()) else { continue };
        for reference in REFERENCES.iter().map(|r| (*r).to_owned()).chain(REFERENCES.iter().map(|r| pinned(r))) {
            let object = json!({});
            let asked = Asked::created(&object).holds(&format!("[{}].all(r, {may})", text(&reference)), None).0;
            // What can't be read is refused by every policy, so it is never skipped.
            assert!(asked || selected(globs, &reference) == Some(false), "{reference:?} is skipped for {globs:?}");
            skipped += usize::from(!asked);
        }
    }
    assert!(skipped > 100, "{skipped}: the condition is there to skip");
    assert_eq!(may_match([]), None);
    assert_eq!(may_match(["registry.example/**", "**/app"]), None, "one of them may be anywhere");
    let long: Vec<_> = (0..64).map(|i| format!("registry.example/{i}/{}", "x".repeat(250))).collect();
    assert_eq!(may_match(long.iter().map(String::as_str)), None, "an expression has a bound on its length");
}

#[test]
fn what_the_guard_refuses_is_an_image_that_the_policy_selects() {
    let mut refused = 0;
    for globs in GLOBS {
        let Some(must) = must_match(globs.iter().copied()) else { continue };
        for reference in REFERENCES {
            let object = json!({});
            let certain = Asked::created(&object).holds(&format!("[{}].all(r, {must})", text(reference)), None).0;
            let all = globs.contains(&"**");
            assert!(!certain || all || selected(globs, reference) == Some(true), "{reference:?} for {globs:?}");
            refused += usize::from(certain && !all);
        }
    }
    assert!(refused > 10, "{refused}: the guard is there to refuse");
}

fn conditions(gate: Gate, asked: &Asked<'_>) -> bool {
    let entries = webhooks(&plan(vec![gate]));
    let conditions = entries[0]["matchConditions"].as_array().unwrap().clone();
    conditions.iter().all(|condition| asked.holds(condition["expression"].as_str().unwrap(), None).0)
}

#[test]
fn a_request_out_of_scope_never_arrives() {
    let scoped = || Gate { images: vec!["registry.example/prod/**".into()], ..gate("a") };
    let arrives = |object: &Value| conditions(scoped(), &Asked::created(object));
    assert!(arrives(&pod("registry.example/prod/app:1")));
    assert!(!arrives(&pod("registry.example/test/app:1")));
    assert!(!arrives(&json!({"metadata": {}})));
    let mut two = pod("registry.example/test/app:1");
    for (list, entry) in [
        ("initContainers", json!({"name": "i", "image": "registry.example/prod/app:1"})),
        ("ephemeralContainers", json!({"name": "i", "image": "registry.example/prod/app:1"})),
        ("volumes", json!({"name": "v", "image": {"reference": "registry.example/prod/app:1"}})),
    ] {
        two["spec"][list] = json!([entry]);
        assert!(arrives(&two), "{list}");
        two["spec"].as_object_mut().unwrap().remove(list);
        let template = json!({"spec": {"template": {"spec": {list: [entry]}}}});
        assert!(arrives(&template), "{list} of a template");
        let cron = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {list: [entry]}}}}}});
        assert!(arrives(&cron), "{list} of a CronJob");
    }
    two["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}, {"name": "w", "image": {}}]);
    assert!(!arrives(&two));
    let many: Vec<_> = (0..300).map(|i| json!({"name": format!("c{i}"), "image": "registry.example/test/a"})).collect();
    assert!(arrives(&json!({"spec": {"containers": many}})), "what is too large to look at is asked about");
    let spread = |n: usize| {
        let reference = "registry.example/test/a";
        let list = |image: Value| {
            let entry = |i: usize| json!({"name": format!("n{i}"), "image": image});
            (0..n).map(entry).collect::<Vec<_>>()
        };
        let volumes = list(json!({"reference": reference}));
        json!({"containers": list(reference.into()), "initContainers": list(reference.into()), "volumes": volumes})
    };
    for (n, asked) in [(85, false), (100, true)] {
        let template = json!({"spec": {"template": {"spec": spread(n)}}});
        let cron = json!({"spec": {"jobTemplate": template}});
        for object in [json!({"spec": spread(n)}), template, cron] {
            assert_eq!(arrives(&object), asked, "{n} in each of three lists");
        }
    }
    let deny = Gate { unmatched: zastava_crds::policy::Unmatched::Deny, ..scoped() };
    assert!(conditions(deny, &Asked::created(&pod("registry.example/test/app:1"))), "it is refused for that");
}

#[test]
fn no_reference_is_held_against_more_beginnings_than_a_condition_may_cost() {
    let globs = |n: usize| (0..n).map(|i| format!("registry{i}.example/**")).collect::<Vec<_>>();
    for (n, narrowed) in [(128, true), (129, false)] {
        assert_eq!(may_match(globs(n).iter().map(String::as_str)).is_some(), narrowed, "{n}");
    }
}

#[test]
fn the_one_mutating_entry_is_narrowed_by_what_all_policies_leave_out() {
    let selector = |team: &str| serde_json::from_value(json!({"matchLabels": {"team": team}})).unwrap();
    let narrow = |team: &str, glob: &str| Gate {
        namespace_selector: selector(team),
        pod_selector: selector(team),
        images: vec![glob.to_owned()],
        ..gate(team)
    };
    let entry = |gates: Vec<Gate>| {
        let mutating = built(&plan(gates), true, false).configurations.unwrap().mutating.unwrap();
        serde_json::to_value(&mutating.webhooks.unwrap()[0]).unwrap()
    };
    let alike = entry(vec![narrow("shop", "a.example/**"), narrow("shop", "b.example/**")]);
    assert_eq!(alike["namespaceSelector"]["matchLabels"], json!({"team": "shop"}));
    assert_eq!(alike["objectSelector"]["matchLabels"], json!({"team": "shop"}));
    let both = alike["matchConditions"][1]["expression"].as_str().unwrap();
    assert!(both.contains("'a.example/'") && both.contains("'b.example/'"), "{both}");
    for (name, other) in [("whole", gate("whole")), ("other", narrow("other", "a.example/**"))] {
        let mixed = entry(vec![narrow("shop", "a.example/**"), other]);
        assert_eq!(mixed["namespaceSelector"].get("matchLabels"), None, "{name}");
        assert_eq!(mixed.get("objectSelector"), None, "{name}");
    }
    assert_eq!(entry(vec![gate("a"), narrow("b", "a.example/**")])["matchConditions"].as_array().unwrap().len(), 1);
    let unpinning = Gate { pins: false, ..gate("a") };
    let alone = entry(vec![unpinning, narrow("shop", "a.example/**")]);
    assert_eq!(alone["objectSelector"]["matchLabels"], json!({"team": "shop"}), "who does not pin has no say");
}

#[test]
fn an_update_is_asked_about_if_it_brings_an_image_in() {
    let old = pod("r.example/a:1");
    let changed = |new: &Value, old: &Value| Asked::updated(new, old).holds(&images_changed(), None).0;
    let mut new = old.clone();
    new["metadata"] = json!({"name": "p", "finalizers": ["x"], "labels": {"a": "b"}});
    new["status"] = json!({"phase": "Running"});
    assert!(!changed(&new, &old));
    assert!(!changed(&json!({"metadata": {}}), &old), "what is gone brings nothing in");
    for (pointer, value) in [
        ("/spec/containers/0/image", json!("r.example/a:2")),
        ("/spec/containers/0/name", json!("other")),
        ("/spec/ephemeralContainers", json!([{"name": "e", "image": "r.example/a:1"}])),
        ("/spec/initContainers", json!([{"name": "e", "image": "r.example/a:1"}])),
        ("/spec/volumes", json!([{"name": "e", "image": {"reference": "r.example/a:1"}}])),
    ] {
        let mut new = old.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[key] = value;
        assert!(changed(&new, &old), "{pointer}");
    }
    // However many containers there are, an answer comes, and never "nothing changed" where it was not looked.
    let many = |n: usize, image: &str| {
        let containers: Vec<_> = (0..n).map(|i| json!({"name": format!("c{i}"), "image": image})).collect();
        json!({"spec": {"containers": containers}})
    };
    assert!(!changed(&many(1000, "a"), &many(1000, "a")));
    assert!(changed(&many(3000, "a"), &many(3000, "a")));
    assert!(changed(&many(1000, "b"), &many(1000, "a")));
    assert!(Asked::created(&old).holds(&images_changed(), None).0);
}

/// The guard of these policies, before or after the webhook is asked.
fn guarded(specs: &[(&str, Value)], configured: bool) -> Option<GuardResources> {
    let policies: Vec<_> = specs.iter().map(|(name, spec)| std::sync::Arc::new(policy(name, spec))).collect();
    let plan: Plan = validate::plan(&policies, &installation(), "2026-06-01T00:00:00Z".parse().unwrap());
    built(&plan, configured, false).guard
}

fn requiring(failure_policy: &str) -> Value {
    json!({"mode": "Enforce", "admission": {"failurePolicy": failure_policy, "digests": "Require"}})
}

/// The message of the first policy that refuses a request.
fn refusal(guard: &GuardResources, asked: &Asked<'_>) -> Option<String> {
    let spec = guard.policy.spec.clone().unwrap();
    let conditions = spec.match_conditions.unwrap();
    if !conditions.iter().all(|condition| asked.holds(&condition.expression, None).0) {
        return None;
    }
    let mut variables = spec.variables.unwrap();
    variables.reverse();
    let inlined = |expression: &str| {
        variables.iter().fold(expression.to_owned(), |all, variable| {
            all.replace(&format!("variables.{}", variable.name), &format!("({})", variable.expression))
        })
    };
    spec.validations.unwrap().iter().find_map(|validation| {
        let message = inlined(validation.message_expression.as_deref().unwrap());
        let (passed, message) = asked.holds(&inlined(&validation.expression), Some(&message));
        (!passed).then_some(message)
    })
}

#[test]
fn the_guard_holds_what_is_not_held_by_a_refusal_to_ask() {
    assert!(guarded(&[("a", requiring("Ignore"))], true).is_some());
    assert!(guarded(&[("a", requiring("Fail"))], true).is_none(), "nothing passes unasked");
    assert!(guarded(&[("a", requiring("Fail"))], false).is_some(), "nobody is asked yet");
    for (field, value) in [("mode", "Warn"), ("mode", "Audit")] {
        let mut spec = requiring("Ignore");
        spec[field] = json!(value);
        assert!(guarded(&[("a", spec)], true).is_none(), "{value}");
    }
    let mut resolving = requiring("Ignore");
    resolving["admission"]["digests"] = json!("Resolve");
    assert!(guarded(&[("a", resolving)], true).is_none(), "whoever relies on pinning may write tags");
    let mut suspended = requiring("Ignore");
    suspended["suspend"] = json!(true);
    assert!(guarded(&[("a", suspended)], true).is_none());
    let GuardResources { policy, binding } = guarded(&[("a", requiring("Ignore"))], true).unwrap();
    for metadata in [policy.metadata, binding.metadata] {
        assert_eq!(metadata.owner_references.unwrap(), [owners().cluster]);
    }
    let constraints = policy.spec.unwrap().match_constraints.unwrap();
    let exempt = &constraints.namespace_selector.unwrap().match_expressions.unwrap()[0];
    assert_eq!(exempt.values.as_deref().unwrap(), installation().exempt_namespaces);
    assert_eq!(binding.spec.unwrap().validation_actions.unwrap(), ["Deny", "Audit"]);
}

#[test]
fn the_guard_refuses_a_new_image_without_a_digest_wherever_a_pod_names_it() {
    let guard = guarded(&[("strict", requiring("Ignore"))], true).unwrap();
    let good = pinned("r.example/a");
    assert_eq!(refusal(&guard, &Asked::created(&pod(&good))), None);
    insta::assert_snapshot!(
        refusal(&guard, &Asked::created(&pod("r.example/a:1"))).unwrap(),
        @"container app: r.example/a:1: policy strict asks digests: Require, and the reference has no digest; next: write the reference as name@sha256:…"
    );
    for bad in ["nginx", "a@sha256:abc", "a@sha512:aa", &format!("{good}x"), &"x".repeat(2000)] {
        assert!(refusal(&guard, &Asked::created(&pod(bad))).is_some(), "{bad}");
    }
    for (list, entry, called) in [
        ("initContainers", json!({"name": "i", "image": "nginx"}), "init container i"),
        ("ephemeralContainers", json!({"name": "i", "image": "nginx"}), "ephemeral container i"),
        ("volumes", json!({"name": "i", "image": {"reference": "nginx"}}), "image volume i"),
    ] {
        let old = pod(&good);
        let mut new = old.clone();
        new["spec"][list] = json!([entry]);
        let message = refusal(&guard, &Asked::updated(&new, &old)).unwrap();
        assert!(message.starts_with(&format!("{called}: nginx: policy strict")), "{message}");
    }
    let (old, mut new) = (pod("nginx"), pod("nginx"));
    new["metadata"]["finalizers"] = json!([]);
    assert_eq!(refusal(&guard, &Asked::updated(&new, &old)), None, "no image is new");
    new["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": good}]);
    assert_eq!(refusal(&guard, &Asked::updated(&new, &old)), None, "the one that is new is pinned");
    new["spec"]["containers"][0]["image"] = json!("nginx:2");
    assert!(refusal(&guard, &Asked::updated(&new, &old)).is_some());
}

#[test]
fn the_guard_speaks_for_the_policys_scope() {
    let mut spec = requiring("Ignore");
    spec["match"] = json!({
        "namespaceSelector": {"matchLabels": {"env": "prod"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "legacy", "operator": "DoesNotExist"}]},
        "podSelector": {"matchExpressions": [
            {"key": "app", "operator": "Exists"}, {"key": "role", "operator": "NotIn", "values": ["debug"]}]},
        "images": ["registry.example/prod/**", "odd.example/*x"],
    });
    let guard = guarded(&[("a", spec)], true).unwrap();
    let refused = |namespace: Value, labels: Value, image: &str| {
        let mut object = pod(image);
        object["metadata"]["labels"] = labels;
        let asked = Asked { namespace: json!({"metadata": {"labels": namespace}}), ..Asked::created(&object) };
        refusal(&guard, &asked).is_some()
    };
    let (live, web, image) =
        (json!({"env": "prod", "tier": "a"}), json!({"app": "web"}), "registry.example/prod/app:1");
    assert!(refused(live.clone(), web.clone(), image));
    for namespace in [
        json!({}),
        json!({"env": "test", "tier": "a"}),
        json!({"env": "prod", "tier": "c"}),
        json!({"env": "prod", "tier": "a", "legacy": ""}),
    ] {
        assert!(!refused(namespace.clone(), web.clone(), image), "{namespace}");
    }
    for labels in [json!({}), json!({"role": "x"}), json!({"app": "web", "role": "debug"})] {
        assert!(!refused(live.clone(), labels.clone(), image), "{labels}");
    }
    for other in ["registry.example/test/app:1", "nginx", "odd.example/x:1"] {
        assert!(!refused(live.clone(), web.clone(), other), "{other}");
    }
}

#[test]
fn the_guard_lets_in_what_an_exception_may_cover_until_it_ends() {
    let exception = |expires: &str, matching: Value| {
        let mut spec = requiring("Ignore");
        spec["exceptions"] = json!([{"name": "e", "reason": "r", "expires": expires, "match": matching}]);
        spec
    };
    let (future, past) = ("2026-07-01T00:00:00Z", "2026-05-01T00:00:00Z");
    let digest = format!("sha256:{}", "a".repeat(64));
    let object = pod("registry.example/prod/app:1");
    for (expires, matching, refused) in [
        (future, json!({"namespaces": ["shop"]}), false),
        (past, json!({"namespaces": ["shop"]}), true),
        (future, json!({"namespaces": ["other"]}), true),
        (future, json!({"images": ["registry.example/prod/*"]}), false),
        (future, json!({"images": ["registry.example/*od/app"]}), false),
        (future, json!({"images": ["registry.example/test/*"]}), true),
        (future, json!({"images": ["registry.example/prod/*"], "namespaces": ["other"]}), true),
        (future, json!({"images": [digest]}), true),
        (future, json!({"podSelector": {"matchLabels": {"a": "b"}}}), true),
    ] {
        let guard = guarded(&[("a", exception(expires, matching.clone()))], true).unwrap();
        assert_eq!(refusal(&guard, &Asked::created(&object)).is_some(), refused, "{expires} {matching}");
    }
    let policies = [policy("a", &exception(future, json!({"namespaces": ["shop"]})))].map(std::sync::Arc::new);
    let plan = validate::plan(&policies, &installation(), "2026-06-01T00:00:00Z".parse().unwrap());
    assert_eq!(plan.exemption_ends, Some(future.parse().unwrap()), "the next pass is due then");
}

#[test]
fn each_policy_says_so_under_its_own_name() {
    let mut scoped = requiring("Ignore");
    scoped["match"] = json!({"images": ["registry.example/**"]});
    let mut undecidable = requiring("Ignore");
    undecidable["match"] = json!({"images": ["*.example/x?"]});
    let guard = guarded(&[("b", requiring("Ignore")), ("a", scoped), ("c", undecidable)], true).unwrap();
    assert_eq!(guard.policy.spec.clone().unwrap().validations.unwrap().len(), 2, "nothing to say for the third");
    assert!(refusal(&guard, &Asked::created(&pod("registry.example/x:1"))).unwrap().contains("policy a asks"));
    assert!(refusal(&guard, &Asked::created(&pod("elsewhere.example/x:1"))).unwrap().contains("policy b asks"));
    assert!(guard::build(&installation(), &[], &owners().cluster).is_none());
}

#[test]
fn a_literal_is_what_it_stands_for() {
    for value in ["plain", "it's", "back\\slash", "two\nlines\t", "\u{7f}\u{0}", "ünï"] {
        let object = json!({"value": value});
        assert!(Asked::created(&object).holds(&format!("object.value == {}", text(value)), None).0, "{value:?}");
    }
}
