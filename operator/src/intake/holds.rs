//! Syncs that are held open: one a node. A new one ends the one before, whose observer has gone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

type Open = HashMap<String, (u64, CancellationToken)>;

/// Syncs that are held open.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<(u64, Open)>>);

/// One sync that is held open, for as long as this lives.
#[derive(Debug)]
pub(super) struct Hold {
    holds: Holds,
    node: String,
    number: u64,
    ended: CancellationToken,
}

impl Holds {
    pub(super) fn begin(&self, node: &str) -> Hold {
        let ended = CancellationToken::new();
        let mut holds = self.lock();
        let (last, open) = &mut *holds;
        *last += 1;
        let number = *last;
        if let Some((_, before)) = open.insert(node.to_owned(), (number, ended.clone())) {
            before.cancel();
        }
        drop(holds);
        Hold { holds: self.clone(), node: node.to_owned(), number, ended }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Open)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hold {
    /// Waits until a newer sync of the node has come.
    pub(super) async fn superseded(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.holds.lock();
        if holds.1.get(&self.node).is_some_and(|(number, _)| *number == self.number) {
            holds.1.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_new_sync_of_a_node_ends_the_one_before_and_none_is_kept_for_ever() {
        let holds = Holds::default();
        let (first, other) = (holds.begin("a"), holds.begin("b"));
        let second = holds.begin("a");
        first.superseded().await;
        drop(first);
        assert!(!second.ended.is_cancelled() && !other.ended.is_cancelled());
        drop((second, other));
        assert!(holds.lock().1.is_empty());
    }
}
