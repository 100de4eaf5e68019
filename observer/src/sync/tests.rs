//! Syncing against a scripted intake.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use tempfile::TempDir;
use tokio::sync::Notify;
use zastava_core::intake::{Retry, RetryReason};
use zastava_crds::wire::report::Problem;

use super::*;

#[derive(Clone, Default)]
struct Scripted(Arc<Script>);

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Outcome<Option<Box<RuleSet>>>>>,
    told: Mutex<Vec<NodeStatus>>,
    more: Notify,
}

impl Scripted {
    fn says(&self, answer: Outcome<Option<Box<RuleSet>>>) {
        self.0.answers.lock().unwrap().push_back(answer);
    }

    /// The states told, once there are as many.
    async fn told(&self, count: usize) -> Vec<NodeStatus> {
        loop {
            let told = self.0.told.lock().unwrap().clone();
            if told.len() >= count {
                return told;
            }
            self.0.more.notified().await;
        }
    }
}

impl Intake for Scripted {
    async fn sync(&self, status: &NodeStatus) -> Outcome<Option<Box<RuleSet>>> {
        self.0.told.lock().unwrap().push(status.clone());
        self.0.more.notify_one();
        let answer = self.0.answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

struct Setting {
    folder: TempDir,
    intake: Scripted,
    status: watch::Sender<Arc<NodeStatus>>,
    rules: watch::Receiver<Arc<RuleSet>>,
    token: CancellationToken,
}

impl Setting {
    fn start(intake: Scripted) -> Self {
        let folder = TempDir::new().unwrap();
        let (status, told) = watch::channel(Arc::new(NodeStatus::default()));
        let (sender, rules) = watch::channel(Arc::new(RuleSet::default()));
        let token = CancellationToken::new();
        let file = RulesFile::new(folder.path().join(RULES_FILE));
        let syncer = Syncer::new(intake.clone(), file, told, sender, SyncMetrics::default());
        tokio::spawn(syncer.run(token.clone()));
        Self { folder, intake, status, rules, token }
    }
}

fn rules(hash: &str) -> RuleSet {
    RuleSet { hash: hash.to_owned(), ..RuleSet::default() }
}

fn taken(hash: &str) -> Outcome<Option<Box<RuleSet>>> {
    Outcome::Taken(Some(Box::new(rules(hash))))
}

#[tokio::test(start_paused = true)]
async fn rules_are_put_in_force_kept_and_confirmed_by_their_hash() {
    let intake = Scripted::default();
    intake.says(taken("sha256:1"));
    intake.says(Outcome::Taken(None));
    intake.says(taken("sha256:2"));
    let mut setting = Setting::start(intake);
    let told = setting.intake.told(4).await;
    let hashes: Vec<_> = told.iter().map(|status| status.rules_hash.as_str()).collect();
    assert_eq!(hashes, ["", "sha256:1", "sha256:1", "sha256:2"]);
    assert_eq!(setting.rules.borrow_and_update().hash, "sha256:2");
    assert_eq!(RulesFile::new(setting.folder.path().join(RULES_FILE)).load().unwrap(), Some(rules("sha256:2")));
    setting.token.cancel();
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_soon_enough_not_to_count_as_silence() {
    let intake = Scripted::default();
    for _ in 0..10 {
        let retry = Retry { reason: RetryReason::NoLeader, detail: "scripted".to_owned(), after: None };
        intake.says(Outcome::Retry(retry));
        intake.says(Outcome::Refused(Problem { title: "no".to_owned(), detail: None, status: 403 }));
    }
    intake.says(taken("sha256:1"));
    let mut setting = Setting::start(intake);
    for count in 1..21 {
        setting.intake.told(count).await;
        let before = Instant::now();
        setting.intake.told(count + 1).await;
        assert!(before.elapsed() <= Duration::from_secs(zastava_crds::wire::sync::NODE_SILENT_SECONDS / 2));
    }
    setting.rules.wait_for(|rules| rules.hash == "sha256:1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_changed_state_is_told_at_once_and_counters_are_not() {
    let setting = Setting::start(Scripted::default());
    setting.intake.told(1).await;
    let dropped = BTreeMap::from([("ring_full".to_owned(), 1)]);
    let accounting = Accounting { dropped, ..Accounting::default() };
    setting.status.send_replace(Arc::new(NodeStatus { accounting, journal_pending: 9, ..NodeStatus::default() }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(setting.intake.told(1).await.len(), 1);
    setting.status.send_modify(|status| Arc::make_mut(status).observing = true);
    let told = setting.intake.told(2).await;
    assert!(told[1].observing && told[1].journal_pending == 9);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_changes_all_the_time_leaves_time_for_an_answer() {
    let setting = Setting::start(Scripted::default());
    let began = Instant::now();
    for n in 0..100u32 {
        setting.status.send_modify(|status| Arc::make_mut(status).coverage.full = n);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let told = setting.intake.told(1).await.len();
    let most = began.elapsed().as_millis() / HOLD_AT_LEAST.as_millis() + 1;
    assert!(told as u128 <= most && told >= 3, "{told} of {most}");
}
