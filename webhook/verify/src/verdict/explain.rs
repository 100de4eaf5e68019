//! Refusals in words: what was found instead, and what to do.

use super::RefusalReason;
use crate::{
    check::Rejected,
    examine::{Ask, Tally},
    image::Platforms,
    requirement::{AuthorityKind, ResolvedAuthority, SignatureRequirement},
};

/// Identities of one refusal that are told.
const MAX_IDENTITIES: usize = 2;

/// The reasons of one kind of ask, and its word.
struct Words {
    what: &'static str,
    none: RefusalReason,
    no_match: RefusalReason,
    below: RefusalReason,
}

fn words(ask: &Ask<'_>) -> Words {
    match ask {
        Ask::Signature(_) => Words {
            what: "signature",
            none: RefusalReason::NoSignature,
            no_match: RefusalReason::NoMatchingSignature,
            below: RefusalReason::BelowThreshold,
        },
        Ask::Sbom { .. } => Words {
            what: "bill of materials",
            none: RefusalReason::NoSbom,
            no_match: RefusalReason::NoMatchingSbom,
            below: RefusalReason::NoMatchingSbom,
        },
        Ask::Attestation(_) => Words {
            what: "attestation of this type",
            none: RefusalReason::NoAttestation,
            no_match: RefusalReason::NoMatchingAttestation,
            below: RefusalReason::NoMatchingAttestation,
        },
        Ask::BaseImages(_) => Words {
            what: "known base image under its layers, and no provenance",
            none: RefusalReason::UnknownBaseImage,
            no_match: RefusalReason::UnknownBaseImage,
            below: RefusalReason::UnknownBaseImage,
        },
    }
}

/// What was found for an ask that is not met.
pub(super) fn found(ask: &Ask<'_>, tally: &Tally) -> (RefusalReason, String) {
    let words = words(ask);
    let threshold = ask.signed_by().map_or(0, SignatureRequirement::threshold);
    if let Some(unacceptable) = tally.unacceptable.first() {
        return (unacceptable.reason, unacceptable.why.clone());
    }
    if tally.signers() > 0 {
        return (words.below, format!("signed by {} of the {threshold} that are needed", tally.signers()));
    }
    let what = words.what;
    if tally.rejected_total() > 0 {
        return (words.no_match, format!("no {what} that counts: found {}", kinds(tally)));
    }
    let mut found = format!("no {what}");
    if tally.other_types > 0 {
        found = format!("{found}, but {} attached of another type", tally.other_types);
    }
    if tally.notation > 0 {
        found = format!("{found}; {} Notation signatures, which are not verified", tally.notation);
    }
    (words.none, found)
}

/// What was found, in a few words whatever it was: certificates name whom they like.
fn kinds(tally: &Tally) -> String {
    let (identities, others): (Vec<_>, Vec<_>) =
        tally.rejected.iter().partition(|(why, _)| matches!(why, Rejected::OtherIdentity { .. }));
    let beyond: usize = identities.iter().skip(MAX_IDENTITIES).map(|(_, count)| **count).sum();
    let shown = others.into_iter().chain(identities.into_iter().take(MAX_IDENTITIES));
    let mut kinds: Vec<_> = shown.map(|(why, count)| format!("{count} {why}")).collect();
    if beyond > 0 {
        kinds.push(format!("{beyond} signed by more that are not accepted"));
    }
    kinds.join(", ")
}

/// What to do about a refusal of the image `name` (`host/repository@digest`).
pub(super) fn next_step(ask: &Ask<'_>, reason: RefusalReason, name: &str, platforms: &Platforms) -> String {
    let keyed = |authority: &ResolvedAuthority| !matches!(authority.kind(), AuthorityKind::Keyless { .. });
    let (under, key) = if ask.signed_by().is_some_and(|by| by.authorities().iter().any(keyed)) {
        ("with a key that the policy names", "--key <key> ")
    } else {
        ("as an identity that the policy names", "")
    };
    match reason {
        RefusalReason::NoSignature | RefusalReason::NoMatchingSignature => {
            format!("sign it {under}: cosign sign {key}{name}")
        }
        RefusalReason::BelowThreshold => {
            format!("have another of the named authorities sign it: cosign sign {key}{name}")
        }
        RefusalReason::NoSbom | RefusalReason::NoMatchingSbom => {
            format!("attach one {under}: cosign attest {key}--type cyclonedx --predicate <file> {name}")
        }
        RefusalReason::UnsupportedSbom => {
            "attach CycloneDX 1.4 to 1.7 or SPDX 2.2 or 2.3 as JSON, of a format that the policy accepts".to_owned()
        }
        RefusalReason::StaleSbom => "attach a newly made one that says when it was made".to_owned(),
        RefusalReason::NoAttestation | RefusalReason::NoMatchingAttestation => {
            format!("attest it {under}: cosign attest {key}--type <predicate type> --predicate <file> {name}")
        }
        RefusalReason::UnsupportedAttestation => {
            "attest less: conditions are evaluated over JSON of at most 1 MiB and 50000 values".to_owned()
        }
        RefusalReason::ConditionNotMet => {
            "look at what was attested (cosign verify-attestation), and build an image that meets the condition"
                .to_owned()
        }
        RefusalReason::UnknownBaseImage => {
            "build it on an image of the policy's baseImages, and attest its SLSA provenance or pin the base image by \
             host/repository@digest there"
                .to_owned()
        }
        RefusalReason::NoPlatform => match platforms {
            Platforms::Any => "push an image that can run".to_owned(),
            Platforms::Only(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                format!("push an image for {}", nodes.join(", "))
            }
        },
    }
}
