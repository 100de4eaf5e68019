//! The runtimes that can't be had here, by what they answer.

mod server;

use std::time::Duration;

use k8s_cri::v1::ContainerEventType;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use zastava_crds::digest::DigestKind;

use super::*;
use server::{Runtime, Tells};

const RECORDED: [(&str, &str); 3] = [
    ("containerd", include_str!("recorded/containerd.json")),
    ("crio", include_str!("recorded/crio.json")),
    ("cri-dockerd", include_str!("recorded/cri-dockerd.json")),
];
const PATIENCE: Duration = Duration::from_secs(20);

fn hex(two: &str) -> String {
    two.repeat(32)
}

fn recorded(name: &str) -> Value {
    let (_, json) = RECORDED.iter().find(|(recorded, _)| *recorded == name).unwrap();
    serde_json::from_str(json).unwrap()
}

/// Another container of the recorded pod.
fn another(id: &str, name: &str) -> Value {
    let mut another = recorded("crio");
    another["status"]["id"] = json!(id);
    another["status"]["metadata"]["name"] = json!(name);
    another["status"]["labels"]["io.kubernetes.container.name"] = json!(name);
    another
}

#[derive(Debug)]
enum Word {
    Connected(Option<u32>),
    Gone(&'static str),
    Seen(String),
    Removed(String),
    Listed(Vec<String>),
}

struct Told(mpsc::UnboundedSender<Word>);

impl RuntimeState for Told {
    fn connected(&self, pid: Option<u32>) {
        self.0.send(Word::Connected(pid)).unwrap();
    }

    fn gone(&self, error: &CriError) {
        self.0.send(Word::Gone(error.category())).unwrap();
    }

    fn seen(&self, container: Container) {
        self.0.send(Word::Seen(container.reference.container_id)).unwrap();
    }

    fn removed(&self, id: &str) {
        self.0.send(Word::Removed(id.to_owned())).unwrap();
    }

    fn listed(&self, containers: Vec<Container>) {
        let containers = containers.into_iter().filter(|container| !container.is_sandbox);
        self.0.send(Word::Listed(containers.map(|c| c.reference.container_id).collect())).unwrap();
    }

    async fn wanted(&self) {
        std::future::pending::<()>().await;
    }
}

/// Follows in the background.
struct Following {
    words: mpsc::UnboundedReceiver<Word>,
    token: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    fn start(socket: &std::path::Path) -> Self {
        let (sender, words) = mpsc::unbounded_channel();
        let token = CancellationToken::new();
        let (sockets, ends) = (Sockets { candidates: vec![socket.to_owned()], own: None }, token.clone());
        let task = tokio::spawn(async move { follow(sockets, &Told(sender), ends).await });
        Self { words, token, task }
    }

    /// Waits for such a word; those before it.
    async fn until(&mut self, wanted: impl Fn(&Word) -> bool) -> Vec<Word> {
        let mut before = Vec::new();
        let end = Instant::now() + PATIENCE;
        loop {
            let word = timeout_at(end, self.words.recv()).await.unwrap_or_else(|_| panic!("only {before:?}")).unwrap();
            if wanted(&word) {
                return before;
            }
            before.push(word);
        }
    }

    async fn stop(self) {
        self.token.cancel();
        self.task.await.unwrap();
    }
}

fn lists(word: &Word, id: &str) -> bool {
    matches!(word, Word::Listed(ids) if ids.iter().any(|listed| listed == id))
}

#[tokio::test]
async fn each_runtime_tells_of_the_same_container_in_its_own_words() {
    for (name, json) in RECORDED {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cri.sock");
        let _listening = Runtime::recorded(json).listen(&socket);
        let mut cri = Cri::connect(&Sockets { candidates: vec![socket], own: None }).await.unwrap();
        assert_eq!(cri.pid, Some(std::process::id()), "{name}");
        let listed = cri.list().await.unwrap();
        let container = listed.iter().find(|container| !container.is_sandbox).unwrap();
        let reference = &container.reference;
        assert_eq!((container.pid, container.running), (4211, true), "{name}");
        assert_eq!((reference.namespace.as_str(), reference.pod.as_str()), ("shop", "web-7d9c"), "{name}");
        assert_eq!((reference.container.as_str(), &reference.container_id), ("web", &hex("b2")), "{name}");
        assert_eq!(reference.image.as_deref(), Some("registry.example/shop/web:v1"), "{name}");
        let digests: Vec<_> = reference.digests.iter().map(|d| (d.kind, d.digest.as_str().to_owned())).collect();
        let expected = [
            (DigestKind::Unresolved, format!("sha256:{}", hex("c3"))),
            (DigestKind::Config, format!("sha256:{}", hex("d4"))),
        ];
        assert_eq!(digests, expected, "{name}");
        assert_eq!(container.labels.get("app").map(String::as_str), Some("web"), "{name}");
    }
}

#[tokio::test]
async fn what_a_runtime_does_not_tell_is_unknown_and_hides_nothing_else() {
    let runtime = Runtime::recorded(RECORDED[1].1);
    for (two, info) in [("e5", json!({"sandboxID": "x"})), ("f6", json!({"pid": -1})), ("07", json!("no object"))] {
        let mut odd = another(&hex(two), "odd");
        odd["info"] = info;
        runtime.add(&odd);
    }
    let broken = tonic::Status::unknown("storage: layer not known");
    runtime.0.lock().unwrap().broken = vec![(hex("e5"), broken)];
    let gone = tonic::Status::unknown(format!("Error response from daemon: No such container: {}", hex("f6")));
    runtime.0.lock().unwrap().broken.push((hex("f6"), gone));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("cri.sock");
    let _listening = runtime.listen(&socket);
    let mut cri = Cri::connect(&Sockets { candidates: vec![socket], own: None }).await.unwrap();
    let listed = cri.list().await.unwrap();
    let pids: BTreeMap<_, _> = listed.iter().map(|c| (c.reference.container_id.clone(), c.pid)).collect();
    let expected = [(hex("07"), 0), (hex("a1"), 0), (hex("b2"), 4211), (hex("e5"), 0)];
    assert_eq!(pids.into_iter().collect::<Vec<_>>(), expected);
    // Listed every second by some runtimes: what is known is not asked for again, what is not is.
    let before = runtime.0.lock().unwrap().asked;
    cri.list().await.unwrap();
    assert_eq!(runtime.0.lock().unwrap().asked - before, 3);
}

#[tokio::test]
async fn of_several_runtimes_the_one_that_runs_this_pod_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let sockets = ["containerd.sock", "crio.sock", "none.sock"].map(|name| folder.path().join(name));
    let (other, ours) = (Runtime::default(), Runtime::recorded(RECORDED[1].1));
    let own = OwnPod { namespace: "shop".into(), name: "web-7d9c".into() };
    let looked = Sockets { candidates: sockets.to_vec(), own: Some(own) };
    let none = Cri::connect(&looked).await.unwrap_err();
    assert_eq!(none.category(), "cri_no_socket");
    let _other = other.listen(&sockets[0]);
    let not_ours = Cri::connect(&looked).await.unwrap_err();
    assert_eq!(not_ours.category(), "cri_not_ours", "{not_ours}");
    let _ours = ours.listen(&sockets[1]);
    let mut cri = Cri::connect(&looked).await.unwrap();
    assert_eq!(cri.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn init_ephemeral_and_static_pods_containers_are_told_by_their_own_names() {
    let runtime = Runtime::recorded(RECORDED[1].1);
    let mut init = another(&hex("e5"), "migrate");
    init["status"]["state"] = json!("CONTAINER_EXITED");
    init["info"]["pid"] = json!(0);
    runtime.add(&init);
    runtime.add(&another(&hex("f6"), "debugger-x7k"));
    let mut mirrored = another(&hex("07"), "kube-proxy");
    mirrored["sandbox"]["id"] = json!(hex("18"));
    mirrored["sandbox"]["labels"]["io.kubernetes.pod.name"] = json!("kube-proxy-node-1");
    mirrored["sandbox"]["labels"]["io.kubernetes.pod.uid"] = json!("9ac62f01d4d5c9fd3fc0c7e4b4c3b2d1");
    runtime.add(&mirrored);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("cri.sock");
    let _listening = runtime.listen(&socket);
    let mut cri = Cri::connect(&Sockets { candidates: vec![socket], own: None }).await.unwrap();
    let listed = cri.list().await.unwrap();
    let of = |two: &str| listed.iter().find(|c| c.reference.container_id == hex(two)).unwrap();
    let named = |two: &str| (of(two).reference.pod.as_str(), of(two).reference.container.as_str(), of(two).running);
    assert_eq!(named("e5"), ("web-7d9c", "migrate", false));
    assert_eq!(named("f6"), ("web-7d9c", "debugger-x7k", true));
    assert_eq!(named("07"), ("kube-proxy-node-1", "kube-proxy", true));
    // The hash of its file, not the mirror pod's uid: the intake knows static pods by it.
    assert_eq!(of("07").reference.pod_uid, "9ac62f01d4d5c9fd3fc0c7e4b4c3b2d1");
    assert_eq!(of("f6").reference.pod_uid, of("b2").reference.pod_uid);
}

#[tokio::test]
async fn a_runtime_without_events_is_listed_often_and_asked_again() {
    for tells in [Tells::Nothing, Tells::Unimplemented] {
        let runtime = Runtime::recorded(RECORDED[1].1);
        runtime.0.lock().unwrap().tells = Some(tells);
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cri.sock");
        let _listening = runtime.listen(&socket);
        let mut following = Following::start(&socket);
        following.until(|word| lists(word, &hex("b2"))).await;
        runtime.add(&another(&hex("e5"), "late"));
        let mut between = following.until(|word| lists(word, &hex("e5"))).await;
        // Somebody turned events on.
        runtime.0.lock().unwrap().tells = Some(Tells::Events);
        between.extend(
            following
                .until(|word| {
                    runtime.tell(&hex("e5"), ContainerEventType::ContainerStartedEvent);
                    matches!(word, Word::Seen(id) if *id == hex("e5"))
                })
                .await,
        );
        let lost = between.iter().any(|word| matches!(word, Word::Gone(_) | Word::Connected(_)));
        assert!(!lost, "{tells:?}: {between:?}");
        following.stop().await;
    }
}

#[tokio::test]
async fn a_runtime_that_starts_again_is_followed_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("cri.sock");
    let runtime = Runtime::recorded(RECORDED[0].1);
    let listening = runtime.listen(&socket);
    let mut following = Following::start(&socket);
    following.until(|word| lists(word, &hex("b2"))).await;
    listening.stop(&runtime).await;
    following.until(|word| matches!(word, Word::Gone(_))).await;
    // It comes back with a socket of its own, and one container more.
    runtime.add(&another(&hex("e5"), "new"));
    let _listening = runtime.listen(&socket);
    let before = following.until(|word| lists(word, &hex("e5"))).await;
    assert!(before.iter().any(|word| matches!(word, Word::Connected(Some(_)))), "{before:?}");
    while !runtime.tell(&hex("e5"), ContainerEventType::ContainerDeletedEvent) {
        tokio::task::yield_now().await;
    }
    following.until(|word| matches!(word, Word::Removed(id) if *id == hex("e5"))).await;
    following.stop().await;
}

#[tokio::test]
async fn a_socket_made_anew_is_another_runtimes_though_nothing_broke() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("cri.sock");
    let (old, new) = (Runtime::recorded(RECORDED[1].1), Runtime::recorded(RECORDED[1].1));
    old.0.lock().unwrap().tells = Some(Tells::Nothing);
    new.add(&another(&hex("e5"), "new"));
    let _old = old.listen(&socket);
    let mut following = Following::start(&socket);
    following.until(|word| lists(word, &hex("b2"))).await;
    // The old one still answers on the connection it has.
    std::fs::rename(&socket, folder.path().join("away")).unwrap();
    let _new = new.listen(&socket);
    let before = following.until(|word| lists(word, &hex("e5"))).await;
    assert!(before.iter().any(|word| matches!(word, Word::Gone("cri_call"))), "{before:?}");
    following.stop().await;
}
