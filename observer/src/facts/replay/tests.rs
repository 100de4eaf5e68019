use jiff::Timestamp;
use tempfile::TempDir;
use zastava_crds::{
    digest::{DigestKind, ImageDigest, Sha256Digest},
    wire::{
        event::{Combined, EventDetail, EventId, Killed, Severity},
        fact::{RuntimeFact, Usage},
    },
};

use super::*;
use crate::{
    fixtures::{self, drift},
    journal::inspect::show,
    pipeline::{Lane, Store as _},
    sink::{JournalSink, SinkMetrics},
};

fn image(name: &str) -> ImageDigest {
    ImageDigest { kind: DigestKind::Manifest, digest: Sha256Digest::of(name.as_bytes()) }
}

/// Event `n` at second `n`: `path` ran in a container of `of`.
fn used(n: u64, of: &str, path: &str, container: &str) -> RuntimeEvent {
    let mut event = drift(n, Severity::High);
    event.observed_at = Timestamp::from_second(i64::try_from(n).unwrap()).unwrap();
    event.container.digests = vec![image(of)];
    event.container.container_id = container.to_owned();
    path.clone_into(&mut event.detail.file_mut().unwrap().path);
    event
}

fn node(events: &[RuntimeEvent]) -> TempDir {
    let folder = TempDir::new().unwrap();
    let sink = JournalSink::new(fixtures::journal(folder.path()), SinkMetrics::default());
    for event in events {
        sink.append(Lane::Urgent, event).unwrap();
    }
    folder
}

fn run(recordings: &[&Path]) -> (Vec<u8>, Untold) {
    let recordings: Vec<PathBuf> = recordings.iter().map(|path| path.to_path_buf()).collect();
    let mut out = Vec::new();
    let untold = replay(&recordings, &mut out).unwrap();
    (out, untold)
}

fn facts(bytes: &[u8]) -> Vec<RuntimeFact> {
    std::str::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn equal_events_give_equal_bytes_in_whatever_order_and_form_nodes_come() {
    let one = node(&[used(1, "web", "/b", "x"), used(3, "web", "/a", "y")]);
    // The same second as on the other node: the greater container id wins, not the one that was read last.
    let mut tied = used(4, "web", "/a", "z");
    tied.observed_at = Timestamp::from_second(3).unwrap();
    let two = node(&[tied, used(5, "db", "/a", "w")]);
    let (bytes, untold) = run(&[one.path(), two.path()]);
    assert!(untold.is_empty(), "{untold:?}");
    assert_eq!(run(&[one.path(), two.path()]).0, bytes);
    assert_eq!(run(&[two.path(), one.path()]).0, bytes);

    let told = facts(&bytes);
    let keys: Vec<_> = told.iter().map(|fact| (fact.image_digest.clone(), fact.path.as_str())).collect();
    assert!(keys.is_sorted());
    assert_eq!(told.len(), 3);
    let web = told.iter().find(|fact| fact.image_digest == image("web") && fact.path == "/a").unwrap();
    assert_eq!((web.hit_count, web.container_id.as_str()), (2, "z"));

    let printed = one.path().join("printed");
    show(one.path(), File::create(&printed).unwrap()).unwrap();
    assert_eq!(run(&[&printed, two.path()]).0, bytes, "what was printed tells the same");
    assert_eq!(run(&[&printed, one.path(), two.path(), one.path()]).0, bytes, "an event is one event");
}

#[test]
fn a_line_is_canonical_and_of_the_published_form() {
    let mut event = used(7, "web", "/usr/lib/\u{e9}.so", "c1");
    let EventDetail::Drift { class, process, file, killed, would_kill } = event.detail else { unreachable!() };
    event.detail = EventDetail::Library { class, process, file, payload: false, killed, would_kill };
    event.detail.file_mut().unwrap().sha256 = Some(Sha256Digest::of(b"content"));
    event.combined = Some(Combined { count: 40, until: Timestamp::from_second(9).unwrap() });
    let (bytes, _) = run(&[node(&[event]).path()]);
    let expected = format!(
        "{{\"containerId\":\"c1\",\"hitCount\":40,\"imageDigest\":{{\"digest\":\"{}\",\"kind\":\"manifest\"}},\
         \"observedAt\":\"1970-01-01T00:00:09Z\",\"path\":\"/usr/lib/\u{e9}.so\",\
         \"schema\":\"zastava.runtime.fact@v1\",\"sha256\":\"{}\",\"usage\":\"loaded\"}}\n",
        image("web").digest,
        Sha256Digest::of(b"content")
    );
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

#[test]
fn contents_of_one_path_are_told_apart() {
    let mut other = used(2, "web", "/a", "x");
    other.detail.file_mut().unwrap().sha256 = Some(Sha256Digest::of(b"other"));
    let told = facts(&run(&[node(&[used(1, "web", "/a", "x"), other]).path()]).0);
    assert_eq!(told.iter().map(|fact| (fact.hit_count, fact.usage)).collect::<Vec<_>>(), [(1, Usage::Executed); 2]);
}

#[test]
fn what_is_no_fact_is_counted() {
    let folder = TempDir::new().unwrap();
    let mut nameless = used(1, "web", "/a", "x");
    nameless.container.digests.clear();
    let mut newer = used(2, "web", "/a", "x");
    newer.schema = "zastava.runtime.event@v2".to_owned();
    let mut odd = used(5, "web", "/a", "x");
    odd.event_id = EventId("5".to_owned());
    let events = [nameless, newer, odd, used(3, "web", "/b", "x"), used(4, "web", "/b", "x")];
    let mut lines: Vec<_> =
        events.iter().map(|event| format!("{{\"event\":{}}}", serde_json::to_string(event).unwrap())).collect();
    // Not the last: what stands behind it is read all the same.
    lines.insert(4, format!("{{\"event\":\"{}\"}}", "x".repeat(2 * MAX_LINE)));
    let file = folder.path().join("events");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (bytes, untold) = run(&[&file]);
    assert_eq!(untold, Untold { unreadable: 3, without_image: 1, truncated: 0 });
    assert_eq!(facts(&bytes).iter().map(|fact| fact.hit_count).collect::<Vec<_>>(), [2]);
}

#[test]
fn which_facts_stay_within_the_bound_does_not_depend_on_the_order_of_events() {
    let events: Vec<_> = (0..6).map(|n| used(n, "web", &format!("/{}", n % 3), "x")).collect();
    let told = |events: &mut dyn Iterator<Item = &RuntimeEvent>| {
        let mut facts = Aggregate::new(2);
        events.for_each(|event| facts.add(event));
        let mut out = Vec::new();
        let untold = facts.write(&mut out).unwrap();
        (out, untold)
    };
    let (bytes, untold) = told(&mut events.iter());
    assert_eq!(told(&mut events.iter().rev()), (bytes.clone(), untold));
    assert_eq!(untold.truncated, 2);
    assert_eq!(
        facts(&bytes).iter().map(|fact| (fact.path.as_str(), fact.hit_count)).collect::<Vec<_>>(),
        [("/0", 2), ("/1", 2)]
    );
}

#[test]
fn what_was_killed_before_its_first_instruction_did_not_run() {
    let mut before = used(1, "web", "/a", "x");
    let mut late = used(2, "web", "/b", "x");
    for (event, how) in [(&mut before, Killed::Before), (&mut late, Killed::Late)] {
        let EventDetail::Drift { killed, .. } = &mut event.detail else { unreachable!() };
        *killed = how;
    }
    let (bytes, untold) = run(&[node(&[before, late]).path()]);
    assert!(untold.is_empty());
    assert_eq!(facts(&bytes).iter().map(|fact| fact.path.as_str()).collect::<Vec<_>>(), ["/b"]);
}
