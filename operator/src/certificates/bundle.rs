//! A set of trusted authorities.

use jiff::Timestamp;

use super::authority::Issued;

/// Authorities in one bundle at most: the newest ones.
const MAX: usize = 4;

/// A set of trusted authorities, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustBundle(Vec<Issued>);

impl TrustBundle {
    /// All PEM certificates in `text`; what can't be read is left out, since it can't be trusted either.
    pub fn parse(text: &str) -> Self {
        let mut bundle = Self::default();
        for block in text.split_inclusive("-----END CERTIFICATE-----") {
            if let Some(issued) = block.find("-----BEGIN").and_then(|at| Issued::from_pem(&block[at..]).ok()) {
                bundle.add(issued);
            }
        }
        bundle
    }

    /// Adds one, unless it is there.
    pub fn add(&mut self, authority: Issued) {
        if !self.0.iter().any(|a| a.fingerprint == authority.fingerprint) {
            self.0.push(authority);
            self.0.sort_by(|a, b| b.minted_at.cmp(&a.minted_at).then_with(|| a.fingerprint.cmp(&b.fingerprint)));
        }
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        for authority in other.0 {
            self.add(authority);
        }
    }

    /// Keeps `newest` and those that `used` names; drops what has ended, and the oldest beyond the bound.
    pub fn retain(&mut self, newest: &Issued, now: Timestamp, used: impl Fn(&Issued) -> bool) {
        self.0.retain(|a| a.fingerprint == newest.fingerprint || (!a.is_expired(now) && used(a)));
        self.0.sort_by_key(|a| (a.fingerprint != newest.fingerprint, std::cmp::Reverse(a.minted_at)));
        self.0.truncate(MAX);
    }

    /// Whether this authority is trusted.
    pub fn contains(&self, authority: &Issued) -> bool {
        self.0.iter().any(|a| a.fingerprint == authority.fingerprint)
    }

    /// The authorities, newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Issued> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as PEM.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(|a| a.pem.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Authority;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_bundle_reads_back_what_it_writes() {
        let mut bundle = TrustBundle::default();
        bundle.add(Authority::mint(at(0)).unwrap().cert);
        bundle.add(Authority::mint(at(10)).unwrap().cert);
        assert_eq!(TrustBundle::parse(&bundle.to_pem()), bundle);
        assert_eq!(TrustBundle::parse(&format!("junk\n{}junk", bundle.to_pem())), bundle);
        assert!(TrustBundle::parse("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").is_empty());
    }

    #[test]
    fn what_nobody_uses_goes_and_the_newest_stays_first() {
        let old: Vec<_> = (0..6).map(|n| Authority::mint(at(n)).unwrap().cert).collect();
        let newest = Authority::mint(at(100)).unwrap().cert;
        let mut bundle = TrustBundle::default();
        old.iter().cloned().for_each(|a| bundle.add(a));
        bundle.add(newest.clone());
        let mut all = bundle.clone();
        all.retain(&newest, at(200), |_| true);
        assert_eq!(all.len(), MAX);
        assert_eq!(all.iter().next(), Some(&newest));
        bundle.retain(&newest, at(200), |a| a.fingerprint == old[2].fingerprint);
        assert_eq!(
            bundle.iter().map(|a| &a.fingerprint).collect::<Vec<_>>(),
            [&newest.fingerprint, &old[2].fingerprint]
        );
        bundle.retain(&newest, at(400 * 24 * 3600), |_| true);
        assert_eq!(bundle.len(), 1);
    }
}
