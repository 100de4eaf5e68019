//! The backend's word: asked on every request, after the proof, and never longer than it is fresh.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::advance;
use zastava_core::backend::{
    Cause,
    verdicts::{FRESH, FRESH_REFUSAL},
};
use zastava_crds::wire::{report::AdmissionOutcome, verdict::VerdictWord};

use crate::fixtures::{Bench, SIGNED, UNSIGNED, digest, of_kind, pinned, pod, review, signed};

fn approved(verdict: &Value) -> Value {
    let mut spec = signed("Enforce");
    spec["admission"]["verdict"] = verdict.clone();
    spec
}

fn bench(verdict: &Value) -> Bench {
    Bench::new(&[("one", approved(verdict))])
}

fn required() -> Bench {
    bench(&json!({"required": true}))
}

#[tokio::test(start_paused = true)]
async fn an_image_runs_when_it_is_proven_and_approved() {
    let bench = required();
    bench.scanner.says('a', VerdictWord::Pass);
    bench.scanner.says('b', VerdictWord::Pass);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(answer.allowed() && answer.warnings().is_empty(), "{answer:?}");
    assert_eq!(answer.audit("verdicts"), "");
    let unsigned = bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await;
    assert!(unsigned.message().contains("no signature"), "an approval stands for no signature: {}", unsigned.message());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_tells_the_backends_reason_and_where_to_read_more() {
    let mut bench = required();
    bench.scanner.says('a', VerdictWord::Fail);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(!answer.allowed());
    for part in ["asked: verdict", "the backend says fail: because fail (revision 7)", "next: see https://s.example/a"]
    {
        assert!(answer.message().contains(part), "{part}: {}", answer.message());
    }
    let record = &bench.records()[0];
    assert_eq!((record.outcome, record.requirement.as_str()), (AdmissionOutcome::Denied, "verdict"));
    assert_eq!(record.digest.as_ref().map(|d| &d.digest), Some(&digest('a')));
    let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": pinned(SIGNED, 'a')}]}));
    assert!(!bench.create("one", &template).await.allowed(), "a refusal is definite");
}

/// kyverno#17173: a cached proof must not outlive the live condition beside it.
#[tokio::test(start_paused = true)]
async fn the_backend_changes_its_mind_inside_the_proofs_lifetime() {
    let bench = required();
    bench.scanner.says('a', VerdictWord::Pass);
    let object = pod(&pinned(SIGNED, 'a'));
    assert!(bench.create("one", &object).await.allowed());
    bench.scanner.says('a', VerdictWord::Fail);
    assert!(bench.create("one", &object).await.allowed(), "its word is fresh");
    advance(FRESH).await;
    let answer = bench.create("one", &object).await;
    assert!(!answer.allowed() && answer.message().contains("the backend says fail"), "{}", answer.message());
    bench.scanner.says('a', VerdictWord::Pass);
    advance(FRESH_REFUSAL).await;
    assert!(bench.create("one", &object).await.allowed(), "and an approval counts sooner");
}

#[tokio::test(start_paused = true)]
async fn what_the_backend_does_not_know_is_not_approved() {
    for word in [None, Some(VerdictWord::Unknown)] {
        let bench = required();
        if let Some(word) = word {
            bench.scanner.says('a', word);
        }
        let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
        assert!(!answer.allowed() && answer.message().contains("unknown"), "{}", answer.message());
        let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": pinned(SIGNED, 'a')}]}));
        let template = bench.create("one", &template).await;
        assert!(template.allowed() && template.audit("decision") == "deferred", "its pods are asked about");
    }
}

#[tokio::test(start_paused = true)]
async fn a_warning_of_the_backend_reaches_whoever_applies() {
    let bench = required();
    bench.scanner.says('a', VerdictWord::Warn);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(answer.allowed());
    assert!(answer.warnings()[0].contains("the backend says warn: because warn"), "{:?}", answer.warnings());
    assert!(answer.audit("verdicts").contains("warned"));
    assert!(bench.metric("zastava_admission_verdict_notes_total{kind=\"warned\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_is_down_the_policy_decides() {
    for (on_unavailable, allowed, note) in
        [("Deny", false, ""), ("Allow", true, "unavailable"), ("LastKnown", true, "last_known")]
    {
        let bench = bench(&json!({"required": true, "onUnavailable": on_unavailable, "maxAge": "10m"}));
        bench.scanner.says('a', VerdictWord::Pass);
        bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
        bench.scanner.is(Some(Cause::Busy));
        advance(FRESH).await;
        let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
        assert_eq!(answer.allowed(), allowed, "{on_unavailable}: {}", answer.message());
        if allowed {
            assert!(answer.audit("verdicts").contains("the backend can't be asked"), "{answer:?}");
            assert!(bench.metric(&format!("zastava_admission_verdict_notes_total{{kind=\"{note}\"}} 1")));
        } else {
            assert!(answer.message().contains("the backend can't be asked"), "{}", answer.message());
        }
        let never_said = bench.create("one", &pod(&pinned(SIGNED, 'c'))).await;
        assert!(!never_said.allowed(), "an image without a proof is refused whatever the backend would say");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_refuses_no_template_and_no_failure_policy_speaks_for_it() {
    let mut spec = approved(&json!({"required": true}));
    spec["admission"]["failurePolicy"] = json!("Ignore");
    let bench = Bench::new(&[("one", spec)]);
    bench.scanner.is(Some(Cause::Unreachable));
    assert!(!bench.create("one", &pod(&pinned(SIGNED, 'a'))).await.allowed(), "onUnavailable is Deny");
    let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": pinned(SIGNED, 'a')}]}));
    assert!(bench.create("one", &template).await.allowed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_another_tenant_approves_nothing() {
    let bench = bench(&json!({"required": true, "onUnavailable": "Allow"}));
    bench.scanner.is(Some(Cause::Tenant));
    for attempt in 0..6 {
        let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
        assert!(!answer.allowed(), "attempt {attempt}, in the pause after the third too");
    }
}

#[tokio::test(start_paused = true)]
async fn a_verdict_that_is_not_required_is_told_and_refuses_nothing() {
    let bench = bench(&json!({}));
    bench.scanner.says('a', VerdictWord::Fail);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(answer.allowed());
    assert!(answer.warnings()[0].contains("the backend says fail"), "{:?}", answer.warnings());
    bench.scanner.is(Some(Cause::Busy));
    advance(FRESH).await;
    let down = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(down.allowed() && down.warnings().is_empty(), "an outage is for the audit log: {down:?}");
    assert!(down.audit("verdicts").contains("unavailable"));
}

#[tokio::test(start_paused = true)]
async fn an_exception_covers_the_backends_word_as_it_covers_a_signature() {
    let mut spec = approved(&json!({"required": true}));
    spec["exceptions"] = json!([{"name": "known", "reason": "agreed", "expires": "2999-01-01T00:00:00Z",
        "match": {"images": [digest('a')]}}]);
    let bench = Bench::new(&[("one", spec), ("other", approved(&json!({"required": true})))]);
    bench.scanner.says('a', VerdictWord::Fail);
    let image = pinned(SIGNED, 'a');
    assert_eq!(bench.create("one", &pod(&image)).await.audit("decision"), "excepted");
    assert!(!bench.create("other", &pod(&image)).await.allowed());
    let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": SIGNED}]}));
    assert_eq!(bench.create("one", &template).await.audit("decision"), "excepted", "by the digest it resolves to");
}

#[tokio::test(start_paused = true)]
async fn all_images_of_a_request_are_one_question_and_none_is_asked_that_no_policy_selects() {
    let mut spec = approved(&json!({"required": true}));
    spec["match"] = json!({"images": ["registry.example/prod/**"]});
    let bench = Bench::new(&[("one", spec)]);
    for image in ['a', 'd', 'e'] {
        bench.engine.signed.lock().unwrap().insert(digest(image));
        bench.scanner.says(image, VerdictWord::Pass);
    }
    let mut object = pod(&pinned(SIGNED, 'a'));
    object["spec"]["containers"] = json!([
        {"name": "a", "image": pinned(SIGNED, 'a')}, {"name": "b", "image": pinned(SIGNED, 'd')},
        {"name": "c", "image": pinned(SIGNED, 'e')}, {"name": "d", "image": pinned(SIGNED, 'a')},
        {"name": "e", "image": pinned("other.example/app:1", 'f')},
    ]);
    assert!(bench.create("one", &object).await.allowed());
    assert_eq!(bench.scanner.batches(), [3]);
    let update = json!({"metadata": {"name": "p", "namespace": "default", "labels": {"a": "b"}}});
    let mut changed = object.clone();
    changed["metadata"] = update["metadata"].clone();
    advance(FRESH).await;
    let review = review("UPDATE", &changed, Some(&object));
    assert!(bench.review("/validate/one", &review).await.allowed());
    assert_eq!(bench.scanner.batches(), [3], "an update that changes no image asks nothing");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_asks_the_backend_alone_takes_its_word_on_the_resolved_digest() {
    let spec = json!({"mode": "Enforce", "admission": {"verdict": {"required": true}}});
    let bench = Bench::new(&[("one", spec)]);
    bench.scanner.says('b', VerdictWord::Pass);
    assert!(bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await.allowed());
    assert!(!bench.create("one", &pod(&pinned(SIGNED, 'a'))).await.allowed());
    let template = of_kind("Deployment", &json!({"containers": [{"name": "app", "image": UNSIGNED}]}));
    assert_eq!(bench.create("one", &template).await.audit("decision"), "allowed", "a tag is resolved first");
}

#[tokio::test(start_paused = true)]
async fn without_a_backend_the_denial_names_the_value_to_set() {
    let bench = Bench::without_backend(&[("one", approved(&json!({"required": true})))]);
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(!answer.allowed() && answer.message().contains("backend.url"), "{}", answer.message());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_never_answers_costs_no_more_than_the_deadline() {
    let bench = required();
    bench.scanner.hangs();
    let began = tokio::time::Instant::now();
    let answer = bench.create("one", &pod(&pinned(SIGNED, 'a'))).await;
    assert!(!answer.allowed() && answer.message().contains("in time"), "{}", answer.message());
    assert!(began.elapsed() <= Duration::from_secs(8));
    let unsigned = bench.create("one", &pod(&pinned(UNSIGNED, 'b'))).await;
    assert!(!unsigned.allowed());
    assert!(began.elapsed() <= Duration::from_secs(8), "what is not proven does not wait for it");
}
