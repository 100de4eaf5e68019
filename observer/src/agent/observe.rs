//! From who the node is to what it tells: identity, journal, observation, reports, in this order.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use zastava_core::health::Check;

use super::{
    AgentError, Board,
    identity::{self, Identity},
};
use crate::{
    containers::{OwnPod, Sockets},
    journal::{CursorName, Journal, JournalError, Limits},
    pipeline::{self, Observer, ObserverConfig},
    report::{Pause, Reporter},
    sink::JournalSink,
};

/// Time between two attempts at what is not there yet, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Folder of the journal in the state directory.
const JOURNAL: &str = "journal";
/// File of the containers in the state directory.
const CONTAINERS: &str = "containers.json";

/// Runs until `token` is cancelled.
pub async fn run(board: Board, boot_id: String, identified: Check, token: CancellationToken) -> Result<(), AgentError> {
    let Some(identity) = identify(&board, &identified, &token).await else { return Ok(()) };
    let Some(journal) = open(&board, &boot_id, &token).await else { return Ok(()) };
    board.journal.send_replace(Some(journal.clone()));
    let mut config = ObserverConfig::new(&identity.node_uid);
    config.handover = Some(board.settings.state.join(CONTAINERS));
    let own = OwnPod { namespace: board.settings.namespace.clone(), name: board.settings.pod.clone() };
    config.runtime = Sockets { candidates: board.settings.runtime_sockets.clone(), own: Some(own) };
    let sink = Arc::new(JournalSink::new(journal.clone(), board.sink.clone()));
    // Rules of before must be there before the first event is judged.
    let observer = pipeline::start(config, sink, token.child_token()).await?;
    let rules = tokio::spawn(forward_rules(board.clone(), observer.clone()));
    board.observer.send_replace(Some(observer));
    let last_sync = CancellationToken::new();
    let syncing = tokio::spawn(journal.clone().keep_synced(last_sync.clone()));
    let (intake, metrics, progress) = (board.intake.clone(), board.report.clone(), board.progress.clone());
    Reporter::new(journal, intake, &identity.node_uid, metrics, progress).run(token).await;
    rules.abort();
    last_sync.cancel();
    let _ = syncing.await;
    Ok(())
}

/// The node's UID, as soon as the kubelet has written the token.
async fn identify(board: &Board, identified: &Check, token: &CancellationToken) -> Option<Identity> {
    let mut pause = Pause::new(PAUSES);
    while !token.is_cancelled() {
        match identity::read(Path::new(&board.settings.intake.token_file), &board.settings.node) {
            Ok(identity) => {
                tracing::info!(node = identity.node, uid = identity.node_uid, "this node is known by its token");
                identified.ready();
                return Some(identity);
            }
            Err(error) => {
                if pause.is_first() {
                    tracing::error!(%error, category = error.category(), "this node can't be told by its token");
                }
                identified.not_ready(error.to_string());
            }
        }
        pause.wait(None, token).await;
    }
    None
}

/// The journal, as soon as the disk gives it. Until then the kernel's ring holds what was seen.
async fn open(board: &Board, boot_id: &str, token: &CancellationToken) -> Option<Journal> {
    let mut pause = Pause::new(PAUSES);
    while !token.is_cancelled() {
        let (folder, boot_id) = (board.settings.state.join(JOURNAL), boot_id.to_owned());
        let opened = tokio::task::spawn_blocking(move || {
            // Without a backend there is one reader: another cursor would hold records back for nobody.
            Journal::open(&folder, Limits::default(), &[CursorName::Report], &boot_id)
        });
        match opened.await.ok()? {
            Ok((journal, found)) => {
                tracing::info!(
                    name = journal.name(),
                    records = found.records,
                    damages = found.damages,
                    torn = found.torn,
                    state_lost = found.state_lost,
                    "the journal is open"
                );
                board.progress.send_modify(|progress| progress.stuck = None);
                return Some(journal);
            }
            Err(error) => stuck(board, &error, pause.is_first()),
        }
        pause.wait(None, token).await;
    }
    None
}

fn stuck(board: &Board, error: &JournalError, first: bool) {
    if first {
        tracing::error!(%error, category = error.category(), "the journal can't be opened");
    }
    board.progress.send_modify(|progress| progress.stuck = Some(error.to_string()));
}

/// Puts each rule set in force. Before the first one, none is: what runs waits, and the kernel goes on with its rules.
async fn forward_rules(board: Board, observer: Observer) {
    let mut rules = board.rules.subscribe();
    loop {
        let set = rules.borrow_and_update().clone();
        if !set.hash.is_empty() {
            observer.set_rules(Arc::unwrap_or_clone(set));
        }
        if rules.changed().await.is_err() {
            return;
        }
    }
}
