use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Pod as Object, PodSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use zastava_crds::wire::event::{Combined, LossReason, Severity};

use super::*;
use crate::{
    finding::model::{
        pods::{FakePods, pod},
        records::{denied, drift, event},
    },
    pods::{Owners, Pod},
};

const HASH: &str = "0123456789abcdef0123456789abcdef";

fn n1() -> Sender {
    Sender::Observer { node: "n1".to_owned() }
}

fn now() -> Timestamp {
    "2026-01-02T04:00:00Z".parse().unwrap()
}

async fn judge(report: Report, sender: &Sender, pods: &FakePods) -> Outcome {
    attribute(report, sender, pods, now()).await.unwrap()
}

async fn seen(report: Report, sender: &Sender, pods: &FakePods) -> (FindingKey, Box<Sighting>) {
    match judge(report, sender, pods).await {
        Outcome::Seen(key, sighting) => (key, sighting),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pod_of_the_node_is_named_by_what_the_api_server_says_of_it() {
    let pods = FakePods::default();
    pods.live(pod("shop", "p", "n1", "web"));
    // The node calls it a pod of another namespace and name; its UID is what counts.
    let mut told = event("bank", "p", "/tmp/x");
    told.container.pod = "vault".to_owned();
    let (key, sighting) = seen(Report::Runtime(told), &n1(), &pods).await;
    assert_eq!((key.namespace.as_str(), key.workload.name.as_str()), ("shop", "web"));
    assert_eq!(key.standing, Standing::Attributed);
    assert_eq!((sighting.pods, sighting.nodes), (vec!["web-p".to_owned()], vec!["n1".to_owned()]));
    assert!(!sighting.unverified);
}

#[tokio::test]
async fn a_strangers_pod_is_refused_also_when_it_is_gone() {
    let pods = FakePods::default();
    pods.live(pod("shop", "live", "n2", "web"));
    pods.gone(pod("shop", "gone", "n2", "web"));
    for uid in ["live", "gone"] {
        let outcome = judge(drift("shop", uid, "/tmp/x"), &n1(), &pods).await;
        assert_eq!(outcome, Outcome::Refused(RefusedReason::ForeignPod), "{uid}");
    }
}

#[tokio::test]
async fn a_pod_that_is_gone_is_still_attributed() {
    let pods = FakePods::default();
    pods.gone(pod("shop", "p", "n1", "web"));
    let (key, sighting) = seen(drift("shop", "p", "/tmp/x"), &n1(), &pods).await;
    assert_eq!((key.standing, sighting.unverified), (Standing::Attributed, false));
}

#[tokio::test]
async fn a_never_seen_pod_is_kept_unverified_in_zastavas_own_namespace() {
    let (key, sighting) = seen(drift("shop", "p", "/tmp/x"), &n1(), &FakePods::default()).await;
    assert_eq!(key.standing, Standing::NeverSeen);
    assert!(sighting.unverified);
    assert_eq!(key.home("zastava-system"), "zastava-system");
    assert_eq!(key.object("zastava-system").spec.workload.name, "shop/pod-p");
}

#[tokio::test]
async fn a_static_pod_is_known_by_its_config_hash() {
    let mirror = Object {
        metadata: ObjectMeta {
            namespace: Some("kube-system".to_owned()),
            name: Some("proxy-n1".to_owned()),
            uid: Some("mirror-uid".to_owned()),
            annotations: Some(BTreeMap::from([
                ("kubernetes.io/config.hash".to_owned(), HASH.to_owned()),
                ("kubernetes.io/config.mirror".to_owned(), HASH.to_owned()),
            ])),
            owner_references: Some(vec![OwnerReference {
                kind: "Node".to_owned(),
                name: "n1".to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { node_name: Some("n1".to_owned()), ..PodSpec::default() }),
        status: None,
    };
    let pods = FakePods::default();
    pods.live(Pod::of(mirror, &Owners::default()).unwrap().into());
    let (key, _) = seen(drift("kube-system", HASH, "/tmp/x"), &n1(), &pods).await;
    assert_eq!(
        (key.standing, key.workload.kind.as_str(), key.workload.name.as_str()),
        (Standing::Attributed, "Pod", "proxy-n1")
    );
    let (key, _) = seen(drift("kube-system", "mirror-uid", "/tmp/x"), &n1(), &pods).await;
    assert_eq!(key.standing, Standing::NeverSeen);
}

#[tokio::test]
async fn each_reporter_may_send_its_own_type_only() {
    let pods = FakePods::default();
    pods.live(pod("shop", "p", "n1", "web"));
    let wrong = Outcome::Refused(RefusedReason::WrongType);
    assert_eq!(judge(drift("shop", "p", "/tmp/x"), &Sender::Webhook, &pods).await, wrong);
    assert_eq!(judge(denied("shop", "r/web:1"), &n1(), &pods).await, wrong);
    let (key, _) = seen(denied("shop", "r/web:1"), &Sender::Webhook, &pods).await;
    assert_eq!(key.subject, "r/web:1: signatures[release]");
}

#[tokio::test]
async fn the_use_of_an_exception_is_a_finding_of_its_own_type() {
    let Report::Admission(mut record) = denied("shop", "r/web:1") else { panic!("an admission record") };
    record.outcome = AdmissionOutcome::Excepted;
    record.requirement = "exceptions[known]".to_owned();
    record.message = "let in by exception known until 2999-01-01T00:00:00Z (agreed)".to_owned();
    let (key, sighting) = seen(Report::Admission(record), &Sender::Webhook, &FakePods::default()).await;
    assert_eq!((key.type_, key.subject.as_str()), (FindingType::Exception, "r/web:1: exceptions[known]"));
    assert!(key.name().starts_with("exception-web-"), "{}", key.name());
    assert_eq!((sighting.count, sighting.policies), (1, vec!["baseline".to_owned()]));
    assert!(sighting.evidence.message.contains("known until 2999-01-01T00:00:00Z (agreed)"));
}

#[tokio::test]
async fn what_exceeds_a_bound_is_refused() {
    let pods = FakePods::default();
    pods.live(pod("shop", "p", "n1", "web"));
    let changes: [fn(&mut RuntimeEvent); 10] = [
        |e| e.schema = "zastava.runtime.event@v2".to_owned(),
        |e| e.event_id.0 = "x".repeat(129),
        |e| e.policies.clear(),
        |e| e.policies = vec![e.policies[0].clone(); MAX_POLICIES + 1],
        |e| e.container.container = "a\u{1b}[2J".to_owned(),
        |e| e.container.pod_uid = String::new(),
        |e| e.policies[0].name = "x".repeat(254),
        |e| e.combined = Some(Combined { count: MAX_COMBINED + 1, until: now() }),
        |e| e.combined = Some(Combined { count: 0, until: now() }),
        |e| {
            if let EventDetail::Drift { file, .. } = &mut e.detail {
                file.path = format!("/{}", "x".repeat(MAX_PATH));
            }
        },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut told = event("shop", "p", "/tmp/x");
        change(&mut told);
        let outcome = judge(Report::Runtime(told), &n1(), &pods).await;
        assert_eq!(outcome, Outcome::Refused(RefusedReason::OutOfBounds), "change {n}");
    }
    let Report::Admission(mut record) = denied("shop", "r/web:1") else { panic!("an admission record") };
    record.image = "x".repeat(1025);
    let outcome = judge(Report::Admission(record), &Sender::Webhook, &pods).await;
    assert_eq!(outcome, Outcome::Refused(RefusedReason::OutOfBounds));
}

#[tokio::test]
async fn what_a_reader_of_a_table_sees_cannot_rewrite_it_and_the_future_is_now() {
    let pods = FakePods::default();
    pods.live(pod("shop", "p", "n1", "web"));
    let mut told = event("shop", "p", "/tmp/\u{1b}[2Jx");
    told.observed_at = "2036-01-02T03:04:05Z".parse().unwrap();
    let (key, sighting) = seen(Report::Runtime(told), &n1(), &pods).await;
    assert_eq!(key.subject, "/tmp/\u{fffd}[2Jx");
    assert!(!sighting.evidence.message.contains('\u{1b}'));
    assert!(!sighting.evidence.command.as_ref().unwrap().contains('\u{1b}'));
    assert_eq!((sighting.first, sighting.last), (now(), now()));
    assert_eq!(sighting.severity, Severity::High);
}

#[tokio::test]
async fn what_is_told_together_counts_as_many_and_noise_is_no_finding() {
    let pods = FakePods::default();
    pods.live(pod("shop", "p", "n1", "web"));
    let mut told = event("shop", "p", "/tmp/x");
    let until: Timestamp = "2026-01-02T03:04:06Z".parse().unwrap();
    told.combined = Some(Combined { count: 256, until });
    let (_, sighting) = seen(Report::Runtime(told.clone()), &n1(), &pods).await;
    assert_eq!((sighting.count, sighting.first, sighting.last), (256, told.observed_at, until));
    told.detail = EventDetail::Throttling { rule: "New".to_owned(), of: Severity::High, started: true, combined: 0 };
    let outcome = judge(Report::Runtime(told), &n1(), &pods).await;
    assert_eq!(outcome, Outcome::Noise { started: true });
}

#[tokio::test]
async fn a_loss_is_about_no_workload() {
    let mut told = event("shop", "p", "/tmp/x");
    let at = now();
    told.detail = EventDetail::Lost { reason: LossReason::RingFull, count: 7, from: at, until: at };
    told.policies.clear();
    let outcome = judge(Report::Runtime(told), &n1(), &FakePods::default()).await;
    assert_eq!(outcome, Outcome::Lost { reason: "ring_full", count: 7 });
}
