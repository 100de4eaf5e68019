use zastava_crds::wire::{
    report::WorkloadRef,
    sync::{Coverage, UncoveredPod},
};

use super::*;

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(NOW + second).unwrap()
}

fn pod(name: &str, node: &str) -> Arc<Pod> {
    Arc::new(Pod {
        uid: name.into(),
        namespace: "shop".into(),
        name: name.into(),
        node: Some(node.into()),
        labels: BTreeMap::new(),
        workload: WorkloadRef { kind: "Pod".into(), name: name.into() },
        containers: Vec::new(),
        image_volumes: Vec::new(),
        finished: false,
    })
}

fn view(change: impl FnOnce(&mut NodeStatus)) -> NodeView {
    let mut status = NodeStatus { observing: true, rules_hash: "now".into(), ..NodeStatus::default() };
    change(&mut status);
    NodeView { status: Arc::new(status), age: Duration::ZERO, silent: false }
}

fn survey(views: &[(&str, NodeView)], settled: bool, node: &ClusterNode) -> Survey {
    survey_of(views, settled, node, false)
}

fn survey_of(views: &[(&str, NodeView)], settled: bool, node: &ClusterNode, kills: bool) -> Survey {
    let nodes = BTreeMap::from([("a".to_owned(), node.clone()), ("b".to_owned(), node.clone())]);
    let views = views.iter().map(|(name, view)| ((*name).to_owned(), view.clone())).collect();
    let fleet = Fleet { nodes: &nodes, views: &views, settled, deployed: Some(at(-1000)), now: at(0) };
    let pods = [pod("one", "a"), pod("two", "a"), pod("three", "gone")];
    Survey::of(&pods, &fleet, kills, |rules| rules == "now")
}

fn old() -> ClusterNode {
    ClusterNode { usable: true, since: Some(at(-5000)), platform: None }
}

#[test]
fn only_nodes_that_run_its_pods_matter() {
    let survey = survey(&[("a", view(|_| {}))], true, &old());
    assert_eq!(survey.nodes.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(survey.observing(), (1, 0));
    assert_eq!((survey.full, survey.none), (2, 0));
    assert_eq!(survey.missing().count(), 0);
}

#[test]
fn an_observer_that_may_not_kill_yet_does_not_cover_a_policy_that_does() {
    let seen = |may_kill| {
        let survey = survey_of(&[("a", view(|status| status.may_kill = may_kill))], true, &old(), true);
        survey.missing().map(|(_, reason, _)| reason).collect::<Vec<_>>()
    };
    assert_eq!(seen(false), [CoverageReason::MayNotKill]);
    assert_eq!(seen(true), []);
}

#[test]
fn why_a_node_is_missing() {
    let silent = NodeView { silent: true, ..view(|_| {}) };
    let blind = view(|status| {
        status.observing = false;
        status.reasons = vec![CoverageReason::NoBTF];
    });
    let stale = view(|status| status.rules_hash = "before".into());
    for (view, expected) in [
        (Some(silent), CoverageReason::NotObserved),
        (Some(blind), CoverageReason::NoBTF),
        (Some(stale), CoverageReason::NotObserved),
        (None, CoverageReason::NotObserved),
    ] {
        let views: Vec<_> = view.into_iter().map(|view| ("a", view)).collect();
        let survey = survey(&views, true, &old());
        assert_eq!(survey.missing().collect::<Vec<_>>(), [("a", expected, true)]);
        assert_eq!((survey.full, survey.none), (0, 2));
        assert_eq!(survey.coverage().reasons, [format!("{expected}: 2")]);
        assert!(survey.gaps().is_empty());
    }
}

#[test]
fn an_observer_that_this_leader_has_not_heard_is_not_missing_yet() {
    assert!(survey(&[], false, &old()).is_unheard());
    assert!(!survey(&[("a", view(|_| {}))], false, &old()).is_unheard());
}

#[test]
fn a_new_node_has_its_grace_and_a_broken_one_is_not_usable() {
    let fresh = survey(&[], true, &ClusterNode { usable: true, since: Some(at(-59)), platform: None });
    assert_eq!(fresh.nodes["a"], Standing::Starting);
    assert_eq!(fresh.missing().count(), 0);
    let broken = survey(&[], true, &ClusterNode { usable: false, since: Some(at(-5000)), platform: None });
    assert_eq!(broken.missing().collect::<Vec<_>>(), [("a", CoverageReason::NotObserved, false)]);
}

#[test]
fn pods_that_a_node_names_are_partly_covered_or_not() {
    let uncovered = |reason, partial, none| {
        survey(
            &[(
                "a",
                view(|status| {
                    status.coverage = Coverage { full: 1, partial, none };
                    status.uncovered = vec![UncoveredPod { namespace: "shop".into(), pod: "one".into(), reason }];
                }),
            )],
            true,
            &old(),
        )
    };
    let unarmed = uncovered(CoverageReason::Unarmed, 1, 0);
    assert_eq!((unarmed.full, unarmed.partial, unarmed.none), (1, 1, 0));
    assert!(unarmed.gaps().is_empty(), "it is armed by its next exec");
    let sandboxed = uncovered(CoverageReason::Sandboxed, 0, 1);
    assert_eq!((sandboxed.full, sandboxed.partial, sandboxed.none), (1, 0, 1));
    assert_eq!(sandboxed.gaps(), BTreeSet::from([CoverageReason::Sandboxed]));
}
