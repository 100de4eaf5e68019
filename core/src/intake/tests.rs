//! The client against TLS servers on this machine.

use std::{
    collections::{BTreeSet, VecDeque},
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use zastava_crds::wire::report::{BatchMark, NotLeader, Refused, RefusedReason};

use super::*;

const NAME: &str = "zastava-intake.zastava-system.svc";

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    async fn leaf(&self, name: &str) -> RustlsConfig {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        RustlsConfig::from_pem(leaf.pem().into_bytes(), key.serialize_pem().into_bytes()).await.unwrap()
    }
}

/// Statuses and bodies, in order.
type Answers = VecDeque<(u16, Vec<u8>)>;

/// One request as a replica saw it.
struct Seen {
    peer: SocketAddr,
    token: String,
    path: String,
}

/// A replica that answers as scripted; without a script, with nothing at all (204).
struct Replica {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    answers: Arc<Mutex<Answers>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Replica {
    async fn start(authority: &Authority, name: &str) -> Self {
        let _ = crate::tls::install_provider();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<Answers>> = Arc::default();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, log) = (answers.clone(), seen.clone());
        let router = Router::new().fallback(move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
            let token = request.headers().get("authorization").map(|token| token.to_str().unwrap().to_owned());
            let path = request.uri().path().to_owned();
            log.lock().unwrap().push(Seen { peer, token: token.unwrap_or_default(), path });
            let (status, body) = script.lock().unwrap().pop_front().unwrap_or((204, Vec::new()));
            async move { Response::builder().status(status).body(Body::from(body)).unwrap() }
        });
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, authority.leaf(name).await).unwrap().handle(handle.clone());
        tokio::spawn(server.serve(router.into_make_service_with_connect_info::<SocketAddr>()));
        handle.listening().await.unwrap();
        Self { address, handle, answers, seen }
    }

    fn says<T: serde::Serialize>(&self, status: u16, body: &T) {
        self.answers.lock().unwrap().push_back((status, serde_json::to_vec(body).unwrap()));
    }

    fn names(&self, leader: SocketAddr) {
        self.says(503, &NotLeader { leader: Some("operator-1".to_owned()), address: Some(leader.to_string()) });
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn connections(&self) -> usize {
        self.seen.lock().unwrap().iter().map(|seen| seen.peer).collect::<BTreeSet<_>>().len()
    }
}

struct Files {
    folder: TempDir,
}

impl Files {
    fn new(authority: &Authority) -> Self {
        let files = Self { folder: TempDir::new().unwrap() };
        fs::write(files.ca(), &authority.pem).unwrap();
        fs::write(files.token(), "first-token\n").unwrap();
        files
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn client(&self, replica: &Replica) -> IntakeClient {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let url = format!("https://{}", replica.address);
        let (ca_file, token_file) = (text(self.ca()), text(self.token()));
        IntakeClient::new(&IntakeSettings { url, server_name: NAME.to_owned(), ca_file, token_file }).unwrap()
    }
}

fn batch(seq: u64) -> ReportBatch {
    ReportBatch { mark: BatchMark { reporter: "node:a/1".to_owned(), seq }, records: Vec::new() }
}

fn receipt(seq: u64) -> BatchReceipt {
    let refused = vec![Refused { reason: RefusedReason::Capped, count: 1 }];
    BatchReceipt { mark: batch(seq).mark, merged: 2, refused }
}

fn reason<T: std::fmt::Debug>(outcome: &Outcome<T>) -> RetryReason {
    match outcome {
        Outcome::Retry(retry) => retry.reason,
        other => panic!("expected a retry, got {other:?}"),
    }
}

#[tokio::test]
async fn reports_and_syncs_share_one_connection_whatever_address_the_service_has() {
    let authority = Authority::new();
    let replica = Replica::start(&authority, NAME).await;
    let files = Files::new(&authority);
    let client = files.client(&replica);
    replica.says(200, &receipt(1));
    assert_eq!(client.report(&batch(1)).await, Outcome::Taken(receipt(1)));
    assert_eq!(client.sync(&NodeStatus::default()).await, Outcome::Taken(None));
    let rules = RuleSet { hash: "sha256:1".to_owned(), ..RuleSet::default() };
    replica.says(200, &rules);
    assert_eq!(client.clone().sync(&NodeStatus::default()).await, Outcome::Taken(Some(Box::new(rules))));
    assert_eq!(replica.connections(), 1);
    let seen = replica.seen.lock().unwrap();
    assert_eq!(seen.iter().map(|seen| seen.path.as_str()).collect::<Vec<_>>(), ["/v1/reports", "/v1/sync", "/v1/sync"]);
    assert!(seen.iter().all(|seen| seen.token == "Bearer first-token"));
}

#[tokio::test]
async fn a_new_token_and_new_authorities_count_from_the_next_request_on() {
    let (old, new) = (Authority::new(), Authority::new());
    let replica = Replica::start(&new, NAME).await;
    let files = Files::new(&old);
    let client = files.client(&replica);
    assert_eq!(reason(&client.sync(&NodeStatus::default()).await), RetryReason::Unreachable);
    assert_eq!(replica.requests(), 0);
    fs::write(files.ca(), format!("{}{}", old.pem, new.pem)).unwrap();
    assert_eq!(client.sync(&NodeStatus::default()).await, Outcome::Taken(None));
    fs::write(files.token(), "second-token").unwrap();
    assert_eq!(client.sync(&NodeStatus::default()).await, Outcome::Taken(None));
    let tokens: Vec<_> = replica.seen.lock().unwrap().iter().map(|seen| seen.token.clone()).collect();
    assert_eq!(tokens, ["Bearer first-token", "Bearer second-token"]);
    fs::write(files.token(), " \n").unwrap();
    assert_eq!(reason(&client.sync(&NodeStatus::default()).await), RetryReason::Credential);
    fs::remove_file(files.ca()).unwrap();
    assert_eq!(reason(&client.sync(&NodeStatus::default()).await), RetryReason::Trust);
}

#[tokio::test]
async fn the_leader_is_followed_and_kept_until_it_is_gone() {
    let authority = Authority::new();
    let (replica, leader) = (Replica::start(&authority, NAME).await, Replica::start(&authority, NAME).await);
    let files = Files::new(&authority);
    let client = files.client(&replica);
    replica.names(leader.address);
    leader.says(200, &receipt(1));
    leader.says(200, &receipt(2));
    assert_eq!(client.report(&batch(1)).await, Outcome::Taken(receipt(1)));
    assert_eq!(client.report(&batch(2)).await, Outcome::Taken(receipt(2)));
    assert_eq!((replica.requests(), leader.requests(), leader.connections()), (1, 2, 1));
    // The leader dies, and the replica that was asked first leads now: no attempt is lost.
    leader.handle.shutdown();
    while std::net::TcpStream::connect(leader.address).is_ok() {
        tokio::task::yield_now().await;
    }
    replica.says(200, &receipt(3));
    assert_eq!(client.report(&batch(3)).await, Outcome::Taken(receipt(3)));
    assert_eq!((replica.requests(), leader.requests()), (2, 2));
}

#[tokio::test]
async fn replicas_that_name_each_other_or_nobody_end_in_a_retry() {
    let authority = Authority::new();
    let (one, two) = (Replica::start(&authority, NAME).await, Replica::start(&authority, NAME).await);
    let files = Files::new(&authority);
    let client = files.client(&one);
    for _ in 0..MAX_HOPS {
        one.names(two.address);
        two.names(one.address);
    }
    assert_eq!(reason(&client.report(&batch(1)).await), RetryReason::NoLeader);
    assert_eq!(one.requests() + two.requests(), MAX_HOPS);
    one.answers.lock().unwrap().clear();
    two.answers.lock().unwrap().clear();
    let nobody = NotLeader { leader: None, address: None };
    one.says(503, &nobody);
    two.says(503, &nobody);
    assert_eq!(reason(&client.report(&batch(1)).await), RetryReason::NoLeader);
    // Whoever was asked, the next request is for the service again.
    one.says(200, &receipt(1));
    assert_eq!(client.report(&batch(1)).await, Outcome::Taken(receipt(1)));
}

#[tokio::test]
async fn an_address_that_does_not_prove_the_services_name_gets_no_token() {
    let authority = Authority::new();
    let replica = Replica::start(&authority, NAME).await;
    let stranger = Replica::start(&authority, "zastava-webhook.zastava-system.svc").await;
    let files = Files::new(&authority);
    let client = files.client(&replica);
    for _ in 0..MAX_HOPS {
        replica.names(stranger.address);
    }
    assert_eq!(reason(&client.report(&batch(1)).await), RetryReason::Unreachable);
    assert_eq!(stranger.requests(), 0);
}

#[tokio::test]
async fn answers_are_told_apart() {
    let authority = Authority::new();
    let replica = Replica::start(&authority, NAME).await;
    let files = Files::new(&authority);
    let client = files.client(&replica);
    let problem = |status| Problem { title: "no\n".to_owned(), detail: None, status };
    for status in [400, 403, 413, 422] {
        replica.says(status, &problem(status));
        let told = Problem { title: "no ".to_owned(), detail: None, status };
        assert_eq!(client.report(&batch(1)).await, Outcome::Refused(told));
    }
    for (status, expected) in [
        (401, RetryReason::Credential),
        (404, RetryReason::Answer),
        (429, RetryReason::Busy),
        (500, RetryReason::Busy),
        (503, RetryReason::Busy),
    ] {
        replica.says(status, &problem(status));
        assert_eq!(reason(&client.report(&batch(1)).await), expected, "{status}");
    }
    replica.says(200, &receipt(2));
    assert_eq!(reason(&client.report(&batch(1)).await), RetryReason::Answer);
    replica.says(200, &"x".repeat(MAX_RECEIPT_BYTES));
    assert_eq!(reason(&client.report(&batch(1)).await), RetryReason::Answer);
    let sent = replica.requests();
    let body = Bytes::from(vec![b' '; MAX_BATCH_BYTES + 1]);
    assert!(matches!(client.report_encoded(&batch(1).mark, body).await, Outcome::Refused(_)));
    assert_eq!(replica.requests(), sent);
}

#[tokio::test]
async fn the_token_is_in_no_text_about_the_client() {
    let authority = Authority::new();
    let replica = Replica::start(&authority, NAME).await;
    let files = Files::new(&authority);
    let client = files.client(&replica);
    let line = client.0.link.lock().await.line().await.unwrap();
    assert!(!format!("{client:?} {line:?}").contains("first-token"));
}

#[test]
fn settings_that_make_no_client_are_told() {
    let settings = |url: &str, name: &str| IntakeSettings {
        url: url.to_owned(),
        server_name: name.to_owned(),
        ca_file: String::new(),
        token_file: String::new(),
    };
    for url in ["http://intake", "https://", "intake", "https://u:p@intake", "https://intake/path", "https://intake?x"]
    {
        assert!(matches!(IntakeClient::new(&settings(url, NAME)), Err(IntakeError::Url { .. })), "{url}");
    }
    assert!(matches!(IntakeClient::new(&settings("https://intake", "a b")), Err(IntakeError::Name(_))));
    assert!(IntakeClient::new(&settings("https://[::1]:9444/", NAME)).is_ok());
}
