use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use tokio::time::advance;

use super::*;
use crate::credentials::held::Held;

/// Gives credentials that hold for 1,000 s, each numbered; or none.
#[derive(Default)]
struct Numbered {
    exchanges: AtomicUsize,
    fails: AtomicBool,
}

impl Exchange for Numbered {
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>> {
        Box::pin(async {
            let number = self.exchanges.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            if self.fails.load(Ordering::SeqCst) {
                return Err(ExchangeError::Refused { host: "sts.example".into(), status: 403, code: " Denied".into() });
            }
            let credential = Credential::IdentityToken(number.to_string().into());
            Ok(Exchanged { credential, lifetime: Duration::from_secs(1000) })
        })
    }
}

fn held() -> (Arc<Numbered>, Arc<Held>) {
    let numbered = Arc::new(Numbered::default());
    (numbered.clone(), Held::new("registry.example", numbered))
}

async fn number(held: &Arc<Held>) -> String {
    shown(&held.credential().await.unwrap().credential)
}

#[tokio::test(start_paused = true)]
async fn who_asks_at_once_waits_for_one_exchange() {
    let (numbered, held) = held();
    let all = join_all((0..100).map(|_| number(&held))).await;
    assert!(all.iter().all(|number| number == "1"), "{all:?}");
    assert_eq!(numbered.exchanges.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn they_are_renewed_ahead_of_their_end_and_nobody_waits_for_that() {
    let (numbered, held) = held();
    assert_eq!(number(&held).await, "1");
    advance(Duration::from_secs(700)).await;
    assert_eq!(number(&held).await, "1");
    assert_eq!(numbered.exchanges.load(Ordering::SeqCst), 1);
    advance(Duration::from_mins(1)).await;
    // Three quarters are over: the old ones at once, and new ones soon.
    let before = tokio::time::Instant::now();
    assert_eq!(number(&held).await, "1");
    assert_eq!(number(&held).await, "1");
    assert_eq!(before.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(number(&held).await, "2");
    assert_eq!(numbered.exchanges.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn those_that_end_soon_are_not_used_any_more() {
    let (_, held) = held();
    let fresh = held.credential().await.unwrap();
    assert_eq!(fresh.ends.duration_since(tokio::time::Instant::now()), Duration::from_secs(940));
    advance(Duration::from_secs(941)).await;
    assert_eq!(number(&held).await, "2");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_unknown_and_is_not_repeated_at_once() {
    let (numbered, held) = held();
    numbered.fails.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let unknown = held.credential().await.unwrap_err();
        assert_eq!(unknown.cause, UnknownCause::CredentialExchange);
        assert_eq!(unknown.message, "no credentials for registry.example: sts.example answered 403 Denied");
    }
    assert_eq!(numbered.exchanges.load(Ordering::SeqCst), 1);
    numbered.fails.store(false, Ordering::SeqCst);
    advance(Duration::from_secs(6)).await;
    assert_eq!(number(&held).await, "2");
    // While the old ones hold, a renewal that fails costs nobody anything.
    numbered.fails.store(true, Ordering::SeqCst);
    advance(Duration::from_secs(800)).await;
    assert_eq!(number(&held).await, "2");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(number(&held).await, "2");
    assert_eq!(numbered.exchanges.load(Ordering::SeqCst), 3);
}

/// Breaks the first time, and gives credentials from then on.
#[derive(Default)]
struct Breaking(AtomicBool);

impl Exchange for Breaking {
    fn exchange(&self) -> BoxFuture<'_, Result<Exchanged, ExchangeError>> {
        Box::pin(async {
            assert!(self.0.swap(true, Ordering::SeqCst), "broken");
            let credential = Credential::IdentityToken("whole".to_owned().into());
            Ok(Exchanged { credential, lifetime: Duration::from_secs(1000) })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_breaks_is_a_failure_as_others_are() {
    let held = Held::new("registry.example", Arc::new(Breaking::default()));
    for _ in 0..2 {
        assert_eq!(held.credential().await.unwrap_err().cause, UnknownCause::CredentialExchange);
    }
    advance(Duration::from_secs(6)).await;
    assert_eq!(number(&held).await, "whole");
}
