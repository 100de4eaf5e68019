//! What is found at one digest, held against what is asked: who signed it, and what was found instead.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::{StreamExt as _, stream};
use zastava_crds::digest::Sha256Digest;

use crate::{
    answer::{Answer, Unknown, UnknownCause},
    check::{self, Rejected, Signed, Wanted},
    discover::{Candidate, Discovered, Form},
    registry::Repository,
    requirement::SignatureRequirement,
    sbom::Header,
};

/// A signature that is longer is none.
const MAX_SIGNATURE: u64 = 1024 * 1024;
/// Bills of materials are read up to this.
const MAX_SBOM: u64 = 32 * 1024 * 1024;
/// Candidates of one image at most.
const MAX_CANDIDATES: usize = 50;
const CONCURRENCY: usize = 4;

/// One thing that is asked of a digest.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'a> {
    Signature(&'a SignatureRequirement),
    Sbom { signed_by: &'a SignatureRequirement, acceptable: &'a (dyn Fn(&Header) -> Result<(), String> + Sync) },
}

impl<'a> Ask<'a> {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Signature(requirement) => format!("signatures[{}]", requirement.name()),
            Self::Sbom { .. } => "sbom".to_owned(),
        }
    }

    pub(crate) fn signed_by(&self) -> &'a SignatureRequirement {
        match self {
            Self::Signature(requirement) | Self::Sbom { signed_by: requirement, .. } => requirement,
        }
    }

    pub(crate) fn wanted(&self) -> Wanted {
        match self {
            Self::Signature(_) => Wanted::Signature,
            Self::Sbom { .. } => Wanted::Sbom,
        }
    }

    fn limit(&self) -> u64 {
        match self {
            Self::Signature(_) => MAX_SIGNATURE,
            Self::Sbom { .. } => MAX_SBOM,
        }
    }
}

/// What was found for one ask at one digest.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Who signed, by what they signed: one group for signatures, one a document for bills of materials.
    groups: BTreeMap<Option<Sha256Digest>, Group>,
    /// What was found and does not count.
    pub(crate) rejected: BTreeMap<Rejected, usize>,
    /// Documents under accepted keys that are not acceptable, and why.
    pub(crate) unacceptable: BTreeSet<String>,
    /// Attestations of other types, by what their publisher says.
    pub(crate) other_types: usize,
    pub(crate) notation: usize,
    met: Option<Met>,
}

#[derive(Debug, Default)]
struct Group {
    /// Labels by the key's fingerprint: the threshold counts distinct keys.
    keys: BTreeMap<Sha256Digest, String>,
}

/// An ask that is met.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) signed_by: Vec<String>,
    /// The bill of materials, if that was asked.
    pub(crate) sbom: Option<(Header, Signed)>,
}

impl Tally {
    pub(crate) fn into_met(self) -> Option<Met> {
        self.met
    }

    /// Distinct keys that signed, at most.
    pub(crate) fn signers(&self) -> usize {
        self.groups.values().map(|group| group.keys.len()).max().unwrap_or(0)
    }

    /// Things found that are not what was asked.
    pub(crate) fn rejected_total(&self) -> usize {
        self.rejected.values().sum()
    }

    fn count(&mut self, ask: &Ask<'_>, signed: Result<Signed, Rejected>) {
        let signed = match signed {
            Ok(signed) => signed,
            Err(rejected) => {
                *self.rejected.entry(rejected).or_default() += 1;
                return;
            }
        };
        let header = match ask {
            Ask::Signature(_) => None,
            Ask::Sbom { acceptable, .. } => {
                match Header::read(signed.payload()).and_then(|header| acceptable(&header).map(|()| header)) {
                    Ok(header) => Some(header),
                    Err(why) => {
                        self.unacceptable.insert(why);
                        return;
                    }
                }
            }
        };
        let document = header.as_ref().map(|_| Sha256Digest::of(signed.payload()));
        let group = self.groups.entry(document).or_default();
        for authority in signed.by(ask.signed_by().authorities()) {
            group.keys.insert(authority.key.fingerprint().clone(), authority.label.clone());
        }
        if group.keys.len() >= ask.signed_by().threshold() {
            let signed_by = group.keys.values().cloned().collect();
            self.met = Some(Met { signed_by, sbom: header.map(|header| (header, signed)) });
        }
    }
}

/// One digest under examination: what was looked at is looked at once.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) tallies: Vec<Tally>,
    pub(crate) unknown: Vec<Unknown>,
    seen: HashSet<(Sha256Digest, Option<String>)>,
}

impl Examination {
    pub(crate) fn of(asks: &[Ask<'_>]) -> Self {
        Self { tallies: asks.iter().map(|_| Tally::default()).collect(), unknown: Vec::new(), seen: HashSet::new() }
    }

    pub(crate) fn all_met(&self) -> bool {
        self.tallies.iter().all(|tally| tally.met.is_some())
    }

    /// Looks at what was discovered until every ask is met.
    pub(crate) async fn examine(
        &mut self,
        repository: &Repository,
        image: &Sha256Digest,
        asks: &[Ask<'_>],
        discovered: &Discovered,
    ) {
        self.unknown.extend(discovered.unknown.iter().cloned());
        for tally in &mut self.tallies {
            tally.notation += discovered.notation;
        }
        let mut fresh = Vec::new();
        for candidate in &discovered.candidates {
            if self.seen.insert((candidate.layer.digest.clone(), candidate.layer.signature.clone()))
                && self.concerns(asks, candidate)
            {
                fresh.push(candidate.clone());
            }
        }
        if self.seen.len() > MAX_CANDIDATES {
            let message =
                format!("{} signatures and attestations are attached, more than {MAX_CANDIDATES}", self.seen.len());
            self.unknown.push(Unknown::new(UnknownCause::TooLarge, message));
            fresh.truncate(MAX_CANDIDATES);
        }
        let mut blobs = stream::iter(fresh)
            .map(|candidate| async move {
                let blob = repository.blob(&candidate.layer.digest, candidate.layer.size).await;
                (candidate, blob)
            })
            .buffered(CONCURRENCY);
        while let Some((candidate, blob)) = blobs.next().await {
            match blob {
                Answer::Found(bytes) => self.count(asks, &candidate, &bytes, image),
                Answer::None => {
                    let message = format!("{} is listed as a signature and missing", candidate.layer.digest);
                    self.unknown.push(Unknown::new(UnknownCause::RegistryError, message));
                }
                Answer::Unknown(unknown) => self.unknown.push(unknown),
            }
            if self.all_met() {
                return;
            }
        }
    }

    /// Whether a candidate is worth fetching for what is not met yet. Its publisher's word on its type can only keep it
    /// out, never let it in.
    fn concerns(&mut self, asks: &[Ask<'_>], candidate: &Candidate) -> bool {
        let mut worth = false;
        for (ask, tally) in asks.iter().zip(&mut self.tallies) {
            if tally.met.is_some() {
                continue;
            }
            if !could_be(ask, candidate) {
                tally.other_types += 1;
                continue;
            }
            if candidate.layer.size > ask.limit() {
                *tally.rejected.entry(Rejected::TooLarge).or_default() += 1;
                let message =
                    format!("{} has {} bytes, too many to be read", candidate.layer.digest, candidate.layer.size);
                self.unknown.push(Unknown::new(UnknownCause::TooLarge, message));
                continue;
            }
            worth = true;
        }
        worth
    }

    fn count(&mut self, asks: &[Ask<'_>], candidate: &Candidate, bytes: &[u8], image: &Sha256Digest) {
        for (ask, tally) in asks.iter().zip(&mut self.tallies) {
            if tally.met.is_some() || !could_be(ask, candidate) || candidate.layer.size > ask.limit() {
                continue;
            }
            let keys = ask.signed_by().authorities();
            let signed = match candidate.form {
                Form::Bundle => check::bundle(bytes, ask.wanted(), image, keys),
                Form::Envelope => check::envelope(bytes, ask.wanted(), image, keys),
                Form::SimpleSigning => match &candidate.layer.signature {
                    Some(signature) => check::simple_signing(bytes, signature, image, keys),
                    None => Err(Rejected::Malformed),
                },
            };
            tally.count(ask, signed);
        }
    }
}

fn could_be(ask: &Ask<'_>, candidate: &Candidate) -> bool {
    match (ask, candidate.form) {
        (Ask::Sbom { .. }, Form::SimpleSigning) => false,
        (_, Form::SimpleSigning) => true,
        (ask, Form::Bundle | Form::Envelope) => {
            candidate.layer.predicate_type.as_deref().is_none_or(|predicate| ask.wanted().accepts(predicate))
        }
    }
}
