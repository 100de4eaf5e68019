//! What is found at one digest, held against what is asked: who signed it, and what was found instead.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use zastava_crds::digest::Sha256Digest;

use crate::{
    answer::{Answer, Unknown, UnknownCause},
    check::{self, By, Rejected, Signed, Wanted},
    condition::{Live, Pool, Unmet},
    discover::{Candidate, Discovered, Form},
    provenance,
    registry::{Annotations, Repository},
    requirement::{AttestationRequirement, BaseImages, SignatureRequirement, Signers, standing},
    sbom::Header,
    verdict::RefusalReason,
};

/// A signature that is longer is none.
const MAX_SIGNATURE: u64 = 1024 * 1024;
/// Bills of materials are read up to this.
const MAX_SBOM: u64 = 32 * 1024 * 1024;
/// Attestations are read up to this; an envelope is a third longer than what it carries.
const MAX_ATTESTATION: u64 = 8 * 1024 * 1024;
/// Candidates of one image at most.
const MAX_CANDIDATES: usize = 50;
const CONCURRENCY: usize = 4;

/// One thing that is asked of a digest.
#[derive(Clone, Copy)]
pub(crate) enum Ask<'a> {
    Signature(&'a SignatureRequirement),
    Sbom {
        signed_by: &'a SignatureRequirement,
        acceptable: &'a (dyn Fn(&Header) -> Result<(), Unacceptable> + Sync),
        /// Whether the document itself is wanted: it may be large.
        keep: bool,
    },
    Attestation(&'a AttestationRequirement),
    BaseImages(&'a BaseImages),
}

/// Why a document under accepted keys does not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unacceptable {
    pub(crate) reason: RefusalReason,
    pub(crate) why: String,
}

impl<'a> Ask<'a> {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Signature(requirement) => format!("signatures[{}]", requirement.name()),
            Self::Sbom { .. } => "sbom".to_owned(),
            Self::Attestation(requirement) => format!("attestations[{}]", requirement.predicate_type()),
            Self::BaseImages(_) => "baseImages".to_owned(),
        }
    }

    /// Who must have signed; absent: nothing that is signed counts.
    pub(crate) fn signed_by(&self) -> Option<&'a SignatureRequirement> {
        match self {
            Self::Signature(requirement) | Self::Sbom { signed_by: requirement, .. } => Some(requirement),
            Self::Attestation(requirement) => Some(requirement.signed_by()),
            Self::BaseImages(base) => base.provenance(),
        }
    }

    pub(crate) fn wanted(&self) -> Wanted<'a> {
        match self {
            Self::Signature(_) => Wanted::Signature,
            Self::Sbom { .. } => Wanted::Sbom,
            Self::Attestation(requirement) => Wanted::Predicate(requirement.predicate_type()),
            Self::BaseImages(_) => Wanted::Provenance,
        }
    }

    fn limit(&self) -> u64 {
        match self {
            Self::Signature(_) => MAX_SIGNATURE,
            Self::Sbom { .. } => MAX_SBOM,
            Self::Attestation(_) | Self::BaseImages(_) => MAX_ATTESTATION,
        }
    }

    /// Whether a signed document is what is asked; the header of one that is a bill of materials.
    async fn judge(&self, signed: &Signed, at: At<'_>) -> Result<Result<Option<Header>, Unacceptable>, Unknown> {
        Ok(match self {
            Self::Signature(_) => Ok(None),
            Self::Sbom { acceptable, .. } => Header::read(signed.payload())
                .map_err(|why| Unacceptable { reason: RefusalReason::UnsupportedSbom, why })
                .and_then(|header| acceptable(&header).map(|()| Some(header))),
            Self::Attestation(requirement) => {
                let met = at.pool.evaluate(requirement.conditions(), signed.payload().into(), at.now).await?;
                met.map(|()| None).map_err(|unmet| match unmet {
                    Unmet::Condition(why) => Unacceptable { reason: RefusalReason::ConditionNotMet, why },
                    Unmet::Unsupported(why) => Unacceptable { reason: RefusalReason::UnsupportedAttestation, why },
                })
            }
            Self::BaseImages(base) => provenance::uses_known(signed.payload(), base)
                .map(|()| None)
                .map_err(|why| Unacceptable { reason: RefusalReason::UnknownBaseImage, why }),
        })
    }
}

/// Where and when conditions are evaluated.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) now: Timestamp,
}

/// What was found for one ask at one digest.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Who signed, by what they signed: one group for signatures, one a document for all else.
    groups: BTreeMap<Option<Sha256Digest>, Signers>,
    /// Authorities behind the largest group.
    signers: usize,
    /// What was found and does not count.
    pub(crate) rejected: BTreeMap<Rejected, usize>,
    /// Documents under accepted keys that are not acceptable, and why.
    pub(crate) unacceptable: Vec<Unacceptable>,
    /// Attestations of other types, by what their publisher says.
    pub(crate) other_types: usize,
    pub(crate) notation: usize,
    /// What could not be looked at, and matters to this ask alone.
    unknown: Option<Unknown>,
    met: Option<Met>,
}

/// An ask that is met.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) signed_by: Vec<String>,
    /// The head of the bill of materials, if that was asked.
    pub(crate) sbom: Option<Header>,
    /// That document, if it is to be kept.
    pub(crate) document: Option<Signed>,
    /// What its conditions hold over, if they may not do so tomorrow.
    pub(crate) live: Option<Live>,
}

impl Met {
    /// By what the image is, whoever signed.
    pub(crate) fn by(what: String) -> Self {
        Self { signed_by: vec![what], sbom: None, document: None, live: None }
    }
}

impl Tally {
    pub(crate) fn into_met(self) -> Option<Met> {
        self.met
    }

    /// What could not be looked at, and matters to this ask alone.
    pub(crate) fn unknown(&self) -> Option<&Unknown> {
        self.unknown.as_ref()
    }

    /// Distinct authorities that signed the same, at most.
    pub(crate) fn signers(&self) -> usize {
        self.signers
    }

    /// Things found that are not what was asked.
    pub(crate) fn rejected_total(&self) -> usize {
        self.rejected.values().sum()
    }

    async fn count(&mut self, ask: &Ask<'_>, at: At<'_>, signed: Result<Signed, Rejected>) -> Result<(), Unknown> {
        let signed = match signed {
            Ok(signed) => signed,
            Err(rejected) => {
                *self.rejected.entry(rejected).or_default() += 1;
                return Ok(());
            }
        };
        let header = match ask.judge(&signed, at).await? {
            Ok(header) => header,
            Err(unacceptable) => {
                if !self.unacceptable.contains(&unacceptable) {
                    self.unacceptable.push(unacceptable);
                }
                return Ok(());
            }
        };
        let document = match ask {
            Ask::Signature(_) => None,
            Ask::Sbom { .. } | Ask::Attestation(_) | Ask::BaseImages(_) => Some(Sha256Digest::of(signed.payload())),
        };
        let group = self.groups.entry(document).or_default();
        let Some(requirement) = ask.signed_by() else { return Ok(()) };
        for By { authority, signer } in signed.by() {
            let under = group.entry(signer.clone()).or_default();
            if !under.contains(authority) {
                under.push(*authority);
            }
        }
        let authorities = requirement.authorities();
        let standing = standing(group, authorities);
        self.signers = self.signers.max(standing);
        if standing >= requirement.threshold() {
            let label = |signer, under: &Vec<usize>| authorities.get(*under.first()?).map(|a| a.label_of(signer));
            let signed_by = group.iter().filter_map(|(signer, under)| label(signer, under)).collect();
            let live = match ask {
                Ask::Attestation(asked) => Live::of(asked.conditions(), signed.payload()),
                _ => None,
            };
            let document = matches!(ask, Ask::Sbom { keep: true, .. }).then_some(signed);
            self.met = Some(Met { signed_by, sbom: header, document, live });
        }
        Ok(())
    }
}

/// One digest under examination: what was looked at is looked at once.
#[derive(Debug)]
pub(crate) struct Examination {
    pub(crate) tallies: Vec<Tally>,
    pub(crate) unknown: Vec<Unknown>,
    /// By all that a check depends on: the same bytes with another certificate beside them are another signature.
    seen: HashSet<(Sha256Digest, Annotations)>,
}

impl Examination {
    pub(crate) fn of(asks: &[Ask<'_>]) -> Self {
        Self { tallies: asks.iter().map(|_| Tally::default()).collect(), unknown: Vec::new(), seen: HashSet::new() }
    }

    /// What something else than what is attached tells of an ask that is not met.
    pub(crate) fn learn(&mut self, ask: usize, known: Result<Option<Met>, Unknown>) {
        let Some(tally) = self.tallies.get_mut(ask) else { return };
        match known {
            Ok(met) => tally.met = met,
            Err(unknown) => tally.unknown = Some(unknown),
        }
    }

    /// Places of the asks that are not met.
    pub(crate) fn unmet(&self) -> Vec<usize> {
        self.tallies.iter().enumerate().filter(|(_, tally)| tally.met.is_none()).map(|(index, _)| index).collect()
    }

    pub(crate) fn all_met(&self) -> bool {
        self.tallies.iter().all(|tally| tally.met.is_some())
    }

    /// Looks at what was discovered until every ask is met.
    pub(crate) async fn examine(
        &mut self,
        repository: &Repository,
        at: At<'_>,
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
            if self.seen.insert((candidate.layer.digest.clone(), candidate.layer.beside.clone()))
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
                Answer::Found(bytes) => self.count(asks, at, &candidate, &bytes, image).await,
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

    async fn count(&mut self, asks: &[Ask<'_>], at: At<'_>, candidate: &Candidate, bytes: &[u8], image: &Sha256Digest) {
        for (ask, tally) in asks.iter().zip(&mut self.tallies) {
            let Some(signed_by) = ask.signed_by() else { continue };
            if tally.met.is_some() || !could_be(ask, candidate) || candidate.layer.size > ask.limit() {
                continue;
            }
            let (authorities, beside) = (signed_by.authorities(), &candidate.layer.beside);
            let signed = match candidate.form {
                Form::Bundle => check::bundle(bytes, ask.wanted(), image, authorities),
                Form::Envelope => check::envelope(bytes, beside, ask.wanted(), image, authorities),
                Form::SimpleSigning => check::simple_signing(bytes, beside, image, authorities),
            };
            if let Err(unknown) = tally.count(ask, at, signed).await {
                tally.unknown = Some(unknown);
            }
        }
    }
}

fn could_be(ask: &Ask<'_>, candidate: &Candidate) -> bool {
    match (ask, candidate.form) {
        (ask, _) if ask.signed_by().is_none() => false,
        (Ask::Sbom { .. } | Ask::Attestation(_) | Ask::BaseImages(_), Form::SimpleSigning) => false,
        (Ask::Signature(_), Form::SimpleSigning) => true,
        (ask, Form::Bundle | Form::Envelope) => {
            candidate.layer.predicate_type.as_deref().is_none_or(|predicate| ask.wanted().accepts(predicate))
        }
    }
}
