//! What to mint, when, and whom to go on trusting. Pure: time and all that was seen are given.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    authority::{Authority, Issued},
    bundle::TrustBundle,
    probe::Served,
};

/// API servers learn of a changed webhook configuration through a watch: a moment, taken generously.
pub const WEBHOOK_PROPAGATION: Duration = Duration::from_secs(5);
/// A kubelet brings a changed ConfigMap into a volume within its sync period and cache time, together under two minutes:
/// <https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically>.
pub const INTAKE_PROPAGATION: Duration = Duration::from_secs(150);
/// The intake's replicas load a new leaf through a watch; its old authority stays trusted for this long besides.
const INTAKE_RETIREMENT: Duration = Duration::from_hours(1);

/// What is known of one server's leaf.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// What its Secret holds, if that can be read.
    pub leaf: Option<Issued>,
    /// For how long all who verify the server have trusted the authority of the day; absent: not yet.
    pub trusted_for: Option<Duration>,
    /// Nobody verifies the server by an older authority, so that a new leaf can't be refused.
    pub free: bool,
}

/// What to do about one leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is good.
    Keep,
    /// Issue it now.
    Issue,
    /// Issue it after this time, when the new authority is trusted everywhere.
    Wait(Duration),
}

/// Whether the authority must be minted anew.
pub fn authority_is_due(authority: Option<&Authority>, now: Timestamp) -> bool {
    authority.is_none_or(|a| a.cert.is_due(now))
}

/// What to do about one leaf under `authority`.
pub fn decide(authority: &Issued, seen: &Seen, propagation: Duration, now: Timestamp) -> Action {
    let leaf = seen.leaf.as_ref().filter(|leaf| !leaf.is_expired(now));
    if leaf.is_some_and(|leaf| !leaf.is_due(now) && leaf.issuer == authority.subject) {
        return Action::Keep;
    }
    match seen.trusted_for {
        Some(since) if since >= propagation => Action::Issue,
        _ if seen.free && leaf.is_none() => Action::Issue,
        Some(since) => Action::Wait(propagation.saturating_sub(since)),
        None => Action::Wait(propagation),
    }
}

/// The authorities that verify the webhook: the newest, and each that a replica still serves under. `served` holds one
/// entry a running replica, absent where it could not be asked: then nothing is dropped.
pub fn retained(
    newest: &Issued,
    mut known: TrustBundle,
    leaf: Option<&Issued>,
    served: &[Option<Served>],
    now: Timestamp,
) -> TrustBundle {
    known.add(newest.clone());
    known.retain(newest, now, |authority| {
        leaf.is_some_and(|leaf| leaf.issuer == authority.subject)
            || served.iter().any(|s| s.as_ref().is_none_or(|s| s.issuer == authority.subject))
    });
    known
}

/// The authorities that verify the intake.
pub fn retained_for_intake(
    newest: &Issued,
    mut known: TrustBundle,
    leaf: Option<&Issued>,
    now: Timestamp,
) -> TrustBundle {
    known.add(newest.clone());
    known.retain(newest, now, |authority| {
        leaf.is_none_or(|leaf| leaf.issuer == authority.subject) || newest.age(now) < INTAKE_RETIREMENT
    });
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    fn leaf_of(ca: &Authority, minted: i64) -> Issued {
        ca.issue(&["a.b.svc".into()], at(minted)).unwrap().cert
    }

    #[test]
    fn when_a_leaf_is_issued() {
        let (old, new) = (Authority::mint(at(-1000)).unwrap(), Authority::mint(at(0)).unwrap());
        let day = 24 * 3600;
        let second = Duration::from_secs(1);
        let cases = [
            ("first install", None, None, true, Action::Issue),
            ("good", Some(leaf_of(&new, 0)), Some(second), false, Action::Keep),
            ("good, though nobody verifies it yet", Some(leaf_of(&new, 0)), None, true, Action::Keep),
            ("Secret lost, authority old", None, Some(60 * second), false, Action::Issue),
            ("both Secrets lost, new authority not yet trusted", None, None, false, Action::Wait(5 * second)),
            ("both Secrets lost, new authority just trusted", None, Some(2 * second), false, Action::Wait(3 * second)),
            (
                "authority rotated, old leaf serves",
                Some(leaf_of(&old, 0)),
                Some(second),
                false,
                Action::Wait(4 * second),
            ),
            ("authority rotated, all trust it", Some(leaf_of(&old, 0)), Some(5 * second), false, Action::Issue),
            (
                "authority rotated, nobody verifies: no haste",
                Some(leaf_of(&old, 0)),
                None,
                true,
                Action::Wait(5 * second),
            ),
            ("due", Some(leaf_of(&new, -21 * day)), Some(60 * second), false, Action::Issue),
            (
                "expired, new authority not yet trusted",
                Some(leaf_of(&new, -31 * day)),
                None,
                false,
                Action::Wait(5 * second),
            ),
        ];
        for (name, leaf, trusted_for, free, expected) in cases {
            let seen = Seen { leaf, trusted_for, free };
            assert_eq!(decide(&new.cert, &seen, WEBHOOK_PROPAGATION, at(0)), expected, "{name}");
        }
    }

    #[test]
    fn an_authority_is_renewed_ahead_of_its_end() {
        let ca = Authority::mint(at(0)).unwrap();
        let day = 24 * 3600;
        assert!(authority_is_due(None, at(0)));
        assert!(!authority_is_due(Some(&ca), at(240 * day)));
        assert!(authority_is_due(Some(&ca), at(250 * day)));
    }

    #[test]
    fn an_old_authority_is_trusted_until_no_replica_serves_under_it() {
        let (old, new) = (Authority::mint(at(-1000)).unwrap(), Authority::mint(at(0)).unwrap());
        let mut known = TrustBundle::default();
        known.add(old.cert.clone());
        let served = |ca: &Authority| Some(Served { issuer: ca.cert.subject.clone(), fingerprint: String::new() });
        let len = |leaf: Option<&Issued>, replicas: &[Option<Served>]| {
            retained(&new.cert, known.clone(), leaf, replicas, at(10)).len()
        };
        let (old_leaf, new_leaf) = (leaf_of(&old, 0), leaf_of(&new, 0));
        assert_eq!(len(Some(&old_leaf), &[]), 2, "the Secret still holds the old leaf");
        assert_eq!(len(Some(&new_leaf), &[served(&new), served(&old)]), 2, "one replica has not reloaded");
        assert_eq!(len(Some(&new_leaf), &[served(&new), None]), 2, "one replica does not answer");
        assert_eq!(len(None, &[served(&old)]), 2, "Secrets lost, a replica serves from memory");
        assert_eq!(len(Some(&new_leaf), &[served(&new), served(&new)]), 1);
        assert_eq!(len(Some(&new_leaf), &[]), 1);
    }

    #[test]
    fn the_intakes_old_authority_retires_an_hour_after_the_new_one() {
        let (old, new) = (Authority::mint(at(-1000)).unwrap(), Authority::mint(at(0)).unwrap());
        let mut known = TrustBundle::default();
        known.add(old.cert.clone());
        let len = |leaf: Option<&Issued>, now| retained_for_intake(&new.cert, known.clone(), leaf, at(now)).len();
        assert_eq!(len(Some(&leaf_of(&new, 200)), 300), 2);
        assert_eq!(len(Some(&leaf_of(&old, 0)), 4000), 2);
        assert_eq!(len(None, 4000), 2);
        assert_eq!(len(Some(&leaf_of(&new, 200)), 4000), 1);
    }
}
