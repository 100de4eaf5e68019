//! How many of the authorities have signed.

use std::collections::BTreeMap;

use super::authority::{ResolvedAuthority, Signer};

/// Who signed so far, and under which authorities (by index).
pub(crate) type Signers = BTreeMap<Signer, Vec<usize>>;

/// How many authorities stand behind these signers when each signer speaks for one authority, and each authority through
/// one signer: neither one person under two patterns nor two people under one pattern are two.
pub(crate) fn standing(signers: &Signers, authorities: &[ResolvedAuthority]) -> usize {
    // Authorities that accept the same are one, known by the first of them.
    let whos: Vec<_> = authorities.iter().map(ResolvedAuthority::who).collect();
    let first = |index: usize| whos.iter().position(|who| Some(who) == whos.get(index));
    let edges: Vec<Vec<usize>> =
        signers.values().map(|under| under.iter().copied().filter_map(first).collect()).collect();
    let mut speaker: Vec<Option<usize>> = vec![None; authorities.len()];
    (0..edges.len()).filter(|signer| speaks(*signer, &edges, &mut speaker, &mut vec![false; authorities.len()])).count()
}

/// Finds an authority for a signer, moving earlier signers to others of theirs where that makes room.
fn speaks(signer: usize, edges: &[Vec<usize>], speaker: &mut [Option<usize>], asked: &mut [bool]) -> bool {
    for &authority in &edges[signer] {
        if std::mem::replace(&mut asked[authority], true) {
            continue;
        }
        if speaker[authority].is_none_or(|earlier| speaks(earlier, edges, speaker, asked)) {
            speaker[authority] = Some(signer);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirement::{Identity, Subject, TrustRoot};

    fn glob(subject: &str) -> ResolvedAuthority {
        let identity = Identity::new("https://issuer.example", Subject::Glob(subject.to_owned())).unwrap();
        ResolvedAuthority::keyless(identity, TrustRoot::public_good().unwrap(), "authority").unwrap()
    }

    fn signers(signed: &[(&str, &[usize])]) -> Signers {
        let person = |name: &str| Signer::Identity { issuer: "i".to_owned(), subject: name.to_owned() };
        signed.iter().map(|(name, under)| (person(name), under.to_vec())).collect()
    }

    #[test]
    fn one_person_under_two_patterns_and_two_people_under_one_are_one() {
        let authorities = [glob("*@acme.example"), glob("a*@acme.example"), glob("*@acme.example")];
        let count = |signed: &[(&str, &[usize])]| standing(&signers(signed), &authorities);
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[("ann", &[0, 1, 2])]), 1);
        assert_eq!(count(&[("bob", &[0, 2]), ("cid", &[0, 2])]), 1);
        // Ann has taken the first pattern, and gives it up for Bob.
        assert_eq!(count(&[("ann", &[0, 1, 2]), ("bob", &[0, 2])]), 2);
    }
}
