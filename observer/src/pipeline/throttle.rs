//! Noise: what one container does again and again is told in one event a second that counts it, and nothing is left out.
//!
//! A bucket for each (container, rule, severity) lets a burst through and then so many a second. What finds it empty is
//! combined with its equals; where too many differ, those of one folder are equal.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use zastava_crds::wire::event::{Combined, EventDetail, RuntimeEvent, Severity};

/// Events that a bucket lets through at once.
const BURST: f64 = 32.0;
/// Events a second that it lets through for long.
const RATE: f64 = 8.0;
/// How long equal events are collected.
const WINDOW: Duration = Duration::from_secs(1);
/// Records that one event counts at most, and that wait in the kernel's ring for one.
pub const MAX_MEMBERS: usize = 256;
/// Records that wait in the kernel's ring for all events together.
const MAX_HELD: usize = 768;
/// Subjects that a bucket keeps apart; then folders, as many again; then nothing.
const MAX_SUBJECTS: usize = 64;
/// Buckets: one that is full is as good as none.
const MAX_BUCKETS: usize = 8192;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BucketKey {
    container: String,
    rule: String,
    severity: Severity,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    bucket: BucketKey,
    /// All that makes two events of a bucket differ but for their process.
    alike: String,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    subjects: usize,
    throttling: Option<Throttling>,
}

#[derive(Debug)]
struct Throttling {
    /// Says that it stopped, but for the count.
    stopped: Box<RuntimeEvent>,
    combined: u64,
}

/// Records that become one event.
#[derive(Debug)]
pub struct Group {
    /// The first one's, to be completed.
    event: RuntimeEvent,
    /// Their positions, oldest first.
    pub members: Vec<u64>,
    opened: Instant,
}

impl Group {
    /// Of an earlier agent's members: the event is the first one's.
    pub fn of(event: RuntimeEvent, members: Vec<u64>) -> Self {
        Self { event, members, opened: Instant::now() }
    }

    /// The one event.
    pub fn event(&self) -> RuntimeEvent {
        let mut event = self.event.clone();
        let until = event.combined.as_ref().map_or(event.observed_at, |combined| combined.until);
        let count = u64::try_from(self.members.len()).unwrap_or(u64::MAX);
        event.combined = (count > 1).then_some(Combined { count, until });
        event
    }
}

/// What becomes of an event.
#[derive(Debug)]
pub enum Offer {
    /// It is to be told by itself.
    Through(RuntimeEvent),
    /// It will be told with others; the notice, if this is the first.
    Combined(Option<RuntimeEvent>),
}

/// The buckets of one ring.
#[derive(Debug, Default)]
pub struct Throttle {
    buckets: HashMap<BucketKey, Bucket>,
    groups: HashMap<GroupKey, Group>,
    held: usize,
}

/// The rule that an event is about.
fn rule(detail: &EventDetail) -> Option<String> {
    match detail {
        EventDetail::Drift { class, .. } => Some(class.to_string()),
        EventDetail::Library { class, .. } => Some(format!("library {class}")),
        EventDetail::DeniedProcess { rule, .. } => Some(rule.clone()),
        EventDetail::Throttling { .. } | EventDetail::Lost { .. } => None,
    }
}

fn alike(event: &RuntimeEvent, path: &str) -> String {
    let policies: Vec<&str> = event.policies.iter().map(|policy| policy.uid.as_str()).collect();
    let (killed, would_kill) = match &event.detail {
        EventDetail::Drift { killed, would_kill, .. } | EventDetail::Library { killed, would_kill, .. } => {
            (killed.into(), *would_kill)
        }
        _ => ("", false),
    };
    format!("{killed} {would_kill} {policies:?} {path}")
}

impl Throttle {
    /// Decides on the event that the record at `position` became.
    pub fn offer(&mut self, position: u64, event: RuntimeEvent, now: Instant) -> Offer {
        let Some(rule) = rule(&event.detail) else { return Offer::Through(event) };
        let key = BucketKey { container: event.container.container_id.clone(), rule, severity: event.severity };
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&key) {
            return Offer::Through(event);
        }
        let full = || Bucket { tokens: BURST, filled: now, subjects: 0, throttling: None };
        let bucket = self.buckets.entry(key.clone()).or_insert_with(full);
        bucket.fill(now);
        let token = bucket.tokens >= 1.0;
        if token {
            bucket.tokens -= 1.0;
        }
        if token && bucket.throttling.is_none() {
            return Offer::Through(event);
        }
        let first = bucket.throttling.is_none().then(|| notice(&event, &key, true, 0));
        let stopped = || Throttling { stopped: Box::new(notice(&event, &key, false, 0)), combined: 0 };
        bucket.throttling.get_or_insert_with(stopped).combined += 1;
        self.combine(position, event, key, now);
        Offer::Combined(first)
    }

    fn combine(&mut self, position: u64, mut event: RuntimeEvent, bucket: BucketKey, now: Instant) {
        let path = event.detail.file().map(|file| file.path.clone()).unwrap_or_default();
        let mut key = GroupKey { alike: alike(&event, &path), bucket };
        let subjects = self.buckets.get(&key.bucket).map_or(0, |bucket| bucket.subjects);
        if subjects >= MAX_SUBJECTS && !self.groups.contains_key(&key) {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let folder = if subjects < 2 * MAX_SUBJECTS { format!("{folder}/*") } else { "/*".to_owned() };
            key.alike = alike(&event, &folder);
            if let Some(file) = event.detail.file_mut() {
                file.path = folder;
                (file.sha256, file.image_sha256) = (None, None);
                file.unread = Some("told together with others".to_owned());
            }
        }
        self.held += 1;
        let until = event.observed_at;
        if let Some(bucket) = self.buckets.get_mut(&key.bucket).filter(|_| !self.groups.contains_key(&key)) {
            bucket.subjects += 1;
        }
        let group = self.groups.entry(key).or_insert_with(|| Group { event, members: Vec::new(), opened: now });
        group.members.push(position);
        group.event.combined = Some(Combined { count: 1, until });
    }

    /// Whether so many records wait for their event that no more should be read.
    pub fn is_full(&self) -> bool {
        self.held >= MAX_HELD
    }

    /// The groups that are to be told now, or all of them.
    pub fn due(&mut self, now: Instant, all: bool) -> Vec<Group> {
        let all = all || self.is_full();
        let due = |_: &GroupKey, group: &mut Group| {
            all || group.members.len() >= MAX_MEMBERS || now.duration_since(group.opened) >= WINDOW
        };
        let mut groups = Vec::new();
        for (key, group) in self.groups.extract_if(due) {
            self.held -= group.members.len();
            if let Some(bucket) = self.buckets.get_mut(&key.bucket) {
                bucket.subjects -= 1;
            }
            groups.push(group);
        }
        // In the order of the ring, so that it is given back as soon as can be.
        groups.sort_by_key(|group| group.members.first().copied());
        groups
    }

    /// Takes a group back that can't be told now.
    pub fn put_back(&mut self, group: Group) {
        let Some(rule) = rule(&group.event.detail) else { return };
        let event = &group.event;
        let bucket = BucketKey { container: event.container.container_id.clone(), rule, severity: event.severity };
        let path = event.detail.file().map(|file| file.path.as_str()).unwrap_or_default();
        let key = GroupKey { alike: alike(event, path), bucket };
        self.held += group.members.len();
        if let Some(bucket) = self.buckets.get_mut(&key.bucket) {
            bucket.subjects += 1;
        }
        self.groups.insert(key, group);
    }

    /// What says that throttling stopped, where it did. Call it now and then.
    pub fn stopped(&mut self, now: Instant) -> Vec<RuntimeEvent> {
        let mut notices = Vec::new();
        self.buckets.retain(|_, bucket| {
            bucket.fill(now);
            let calm = bucket.tokens >= BURST && bucket.subjects == 0;
            if calm && let Some(Throttling { mut stopped, combined }) = bucket.throttling.take() {
                if let EventDetail::Throttling { combined: count, .. } = &mut stopped.detail {
                    *count = combined;
                }
                notices.push(*stopped);
            }
            !calm
        });
        notices
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled);
        self.tokens = RATE.mul_add(since.as_secs_f64(), self.tokens).min(BURST);
        self.filled = now;
    }
}

/// The event that says that throttling started or stopped.
fn notice(event: &RuntimeEvent, key: &BucketKey, started: bool, combined: u64) -> RuntimeEvent {
    RuntimeEvent {
        event_id: event.event_id.derived(if started { "throttling started" } else { "throttling stopped" }),
        severity: Severity::Info,
        detail: EventDetail::Throttling { rule: key.rule.clone(), of: key.severity, started, combined },
        combined: None,
        ..event.clone()
    }
}

#[cfg(test)]
mod tests {
    use zastava_crds::wire::event::DriftClass;

    use super::*;
    use crate::fixtures::drift;

    fn event(n: u64, container: char, path: &str) -> RuntimeEvent {
        let mut event = drift(n, Severity::High);
        event.container.container_id = container.to_string().repeat(64);
        if let Some(file) = event.detail.file_mut() {
            file.path = path.to_owned();
        }
        event
    }

    fn counts(groups: &[Group]) -> Vec<(String, u64)> {
        let told = |event: RuntimeEvent| {
            let path = event.detail.file().map(|file| file.path.clone()).unwrap_or_default();
            (path, event.combined.map_or(1, |combined| combined.count))
        };
        groups.iter().map(|group| told(group.event())).collect()
    }

    #[test]
    fn noise_is_combined_and_counted_and_touches_nobody_else() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        let mut through = 0;
        let mut notices = Vec::new();
        for n in 0..200 {
            match throttle.offer(n * 8, event(n, 'a', "/tmp/x"), start) {
                Offer::Through(_) => through += 1,
                Offer::Combined(notice) => notices.extend(notice),
            }
        }
        assert_eq!((through, notices.len()), (32, 1));
        let EventDetail::Throttling { rule, of, started, .. } = &notices[0].detail else { panic!("no notice") };
        assert_eq!((rule.as_str(), *of, *started), ("New", Severity::High, true));
        // Another container, another severity and another rule have buckets of their own.
        let mut severe = event(1000, 'a', "/tmp/x");
        severe.severity = Severity::Critical;
        let mut other = event(1001, 'a', "/tmp/x");
        if let EventDetail::Drift { class, .. } = &mut other.detail {
            *class = DriftClass::Foreign;
        }
        for event in [event(1002, 'b', "/tmp/x"), severe, other] {
            assert!(matches!(throttle.offer(8000, event, start), Offer::Through(_)));
        }
        assert!(throttle.due(start, false).is_empty());
        let groups = throttle.due(start + WINDOW, false);
        assert_eq!(counts(&groups), [("/tmp/x".to_owned(), 168)]);
        assert!(groups[0].members.is_sorted());
        assert!(throttle.stopped(start + Duration::from_secs(3)).is_empty(), "not calm yet");
        let stopped = throttle.stopped(start + Duration::from_secs(5));
        assert!(matches!(
            stopped[..],
            [RuntimeEvent { detail: EventDetail::Throttling { started: false, combined: 168, .. }, .. }]
        ));
        assert!(matches!(
            throttle.offer(0, event(3, 'a', "/tmp/x"), start + Duration::from_secs(5)),
            Offer::Through(_)
        ));
    }

    #[test]
    fn too_many_subjects_are_told_by_folder_and_none_is_lost() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let mut told = 0;
        for n in 0..600 {
            let path = if n < 300 { format!("/build/{n}") } else { format!("/build/{n}/x") };
            if matches!(throttle.offer(n * 8, event(n, 'a', &path), now), Offer::Through(_)) {
                told += 1;
            }
        }
        let counts = counts(&throttle.due(now, true));
        assert_eq!(told + counts.iter().map(|(_, count)| count).sum::<u64>(), 600);
        assert!(counts.contains(&("/build/*".to_owned(), 300 - 32 - 64)), "{counts:?}");
        assert!(counts.len() <= 2 * MAX_SUBJECTS + 1, "{}", counts.len());
    }

    #[test]
    fn records_do_not_wait_in_the_ring_for_long() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for n in 0..(32 + MAX_MEMBERS as u64) {
            throttle.offer(n * 8, event(n, 'a', "/tmp/x"), now);
        }
        assert_eq!(counts(&throttle.due(now, false)), [("/tmp/x".to_owned(), MAX_MEMBERS as u64)]);
    }
}
