//! The containers of the node, kept for the next agent: one that ends while no agent runs is in no list of the runtime's
//! any more, and its records still wait in the kernel's ring.

use std::{path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{identity::Identity, shared::Shared};
use crate::{containers::Container, kept::KeptFile};

/// Time between two writes at least; what happens within it goes into the next one.
const PACE: Duration = Duration::from_millis(50);

/// What is handed over.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    /// No record in the ring is of an earlier boot.
    boot_id: String,
    containers: Vec<Container>,
}

/// The file that carries it.
#[derive(Debug)]
pub struct Handover {
    file: KeptFile<Known>,
    boot_id: String,
}

impl Handover {
    /// By way of this file.
    pub fn new(file: &Path, identity: &Identity) -> Self {
        Self { file: KeptFile::new(file), boot_id: identity.boot_id.clone() }
    }

    /// What an earlier agent of this boot knew.
    pub fn take(&self) -> Vec<Container> {
        match self.file.load() {
            Ok(Some(known)) if known.boot_id == self.boot_id => known.containers,
            Ok(_) => Vec::new(),
            Err(error) => {
                tracing::warn!(%error, category = error.category(), "containers that ended meanwhile stay unknown");
                Vec::new()
            }
        }
    }

    /// Keeps what is known now.
    pub fn keep(&self, shared: &Shared) {
        let known = Known { boot_id: self.boot_id.clone(), containers: shared.register.to_hand_on() };
        if let Err(error) = self.file.replace(&known) {
            tracing::warn!(%error, category = error.category(), "the next agent will not know the containers of now");
        }
    }

    /// Keeps every change; the last one is its caller's to keep.
    pub async fn keep_changes(self: Arc<Self>, shared: Arc<Shared>) {
        loop {
            shared.containers_changed.notified().await;
            let (handover, shared) = (self.clone(), shared.clone());
            if let Err(error) = tokio::task::spawn_blocking(move || handover.keep(&shared)).await {
                tracing::error!(%error, "containers are not kept");
            }
            sleep(PACE).await;
        }
    }
}
