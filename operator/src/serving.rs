//! The intake's own leaf: out of its Secret into the server, whichever replica leads.

use k8s_openapi::api::core::v1::Secret;
use tokio::sync::watch;
use zastava_core::{health::Check, tls::ServerTls};

use crate::{
    certificates::{Issued, read_pair},
    rollout::{Live, Object},
};

/// Publishes each leaf that the Secret holds, and tells which one is served. A Secret that was lost leaves the last one
/// serving: the leader makes a new one.
pub async fn follow(mut live: Live, tls: ServerTls, served: watch::Sender<Option<Issued>>, check: Check) {
    let mut last = None;
    loop {
        let secret = live.snapshot().typed::<Secret, _>(Object::IntakeSecret);
        let pair = secret.as_ref().and_then(read_pair);
        if let Some((leaf, chain, key)) = pair.filter(|(leaf, ..)| last.as_ref() != Some(&leaf.fingerprint)) {
            last = Some(leaf.fingerprint.clone());
            match tls.publish(chain.as_bytes(), key.as_bytes()) {
                Ok(()) => {
                    tracing::info!(fingerprint = leaf.fingerprint, "the intake serves a new certificate");
                    served.send_replace(Some(leaf));
                    check.ready();
                }
                Err(error) => {
                    tracing::error!(%error, category = error.category(), "the intake's certificate can't be served");
                }
            }
        }
        live.changed().await;
    }
}
