use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use k8s_openapi::api::coordination::v1::Lease;

use super::*;

#[derive(Clone, Default)]
struct Shared {
    lease: Arc<Mutex<(u64, Lease)>>,
    away: Arc<AtomicBool>,
}

impl LeaseStore for Shared {
    async fn read(&self) -> Result<Lease, LeaseError> {
        if self.away.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let (version, mut lease) = self.lease.lock().unwrap().clone();
        lease.metadata.resource_version = Some(version.to_string());
        Ok(lease)
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        let mut stored = self.lease.lock().unwrap();
        if lease.metadata.resource_version.as_deref() != Some(stored.0.to_string().as_str()) {
            return Err(LeaseError::Conflict);
        }
        *stored = (stored.0 + 1, lease.clone());
        Ok(lease.clone())
    }
}

fn run(store: &Shared, name: &str) -> (Leadership, CancellationToken, JoinHandle<Result<(), LeaseError>>) {
    let (tx, state) = watch::channel(State::default());
    let token = CancellationToken::new();
    let me = Holder { name: name.to_owned(), address: Some(format!("{name}:9444")) };
    (Leadership { state }, token.clone(), tokio::spawn(elect(store.clone(), me, tx, token)))
}

/// Lets timers and tasks run for a while of the fake clock.
async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_other_names_it() {
    let store = Shared::default();
    let (a, ..) = run(&store, "a");
    pass(Duration::from_millis(10)).await;
    let (b, ..) = run(&store, "b");
    for _ in 0..30 {
        pass(Duration::from_secs(1)).await;
        assert!(a.claim().is_ok());
        assert!(b.claim().is_err());
    }
    assert_eq!(b.holder(), Some(Holder { name: "a".into(), address: Some("a:9444".into()) }));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_stops_before_another_may_start() {
    let store = Shared::default();
    let (a, ..) = run(&store, "a");
    pass(Duration::from_secs(1)).await;
    let reachable = Shared { away: Arc::default(), ..store.clone() };
    let (b, ..) = run(&reachable, "b");
    pass(Duration::from_secs(4)).await;
    store.away.store(true, Ordering::SeqCst);
    let (mut a_stopped, mut b_started) = (None, None);
    for tenth in 0..400 {
        pass(Duration::from_millis(100)).await;
        assert!(!(a.claim().is_ok() && b.claim().is_ok()), "two leaders");
        a_stopped = a_stopped.or(a.claim().is_err().then_some(tenth));
        b_started = b_started.or(b.claim().is_ok().then_some(tenth));
    }
    let (stopped, started) = (a_stopped.unwrap(), b_started.unwrap());
    assert!(started - stopped >= 40, "margin of {} tenths of a second", started - stopped);
}

#[tokio::test(start_paused = true)]
async fn a_release_hands_over_at_once_and_the_task_ends() {
    let store = Shared::default();
    let (a, stop, task) = run(&store, "a");
    pass(Duration::from_secs(1)).await;
    let (b, ..) = run(&store, "b");
    pass(Duration::from_secs(3)).await;
    assert!(b.claim().is_err());
    stop.cancel();
    task.await.unwrap().unwrap();
    assert!(a.claim().is_err());
    pass(PERIOD).await;
    assert!(b.claim().is_ok());
    let lease = store.lease.lock().unwrap().1.clone();
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_term_is_told_once_to_those_who_wait() {
    let store = Shared::default();
    let (a, ..) = run(&store, "a");
    let first = a.next_term(0).await;
    assert_eq!(first, 1);
    tokio::select! {
        term = a.next_term(first) => panic!("term {term} without a change"),
        () = pass(Duration::from_mins(1)) => {}
    }
}
