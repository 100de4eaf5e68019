//! Refusals in words: what was found instead, and what to do.

use super::RefusalReason;
use crate::{
    examine::{Ask, Tally},
    image::Platforms,
};

/// What was found for an ask that is not met.
pub(super) fn found(ask: &Ask<'_>, tally: &Tally) -> (RefusalReason, String) {
    let is_sbom = matches!(ask, Ask::Sbom { .. });
    let threshold = ask.signed_by().threshold();
    if let Some(why) = tally.unacceptable.first() {
        let reason = if why.ends_with("too old") || why.ends_with("was made") {
            RefusalReason::StaleSbom
        } else {
            RefusalReason::UnsupportedSbom
        };
        return (reason, why.clone());
    }
    if tally.signers() > 0 {
        let reason = if is_sbom { RefusalReason::NoMatchingSbom } else { RefusalReason::BelowThreshold };
        return (reason, format!("signed by {} of the {threshold} keys that are needed", tally.signers()));
    }
    let what = if is_sbom { "bill of materials" } else { "signature" };
    if tally.rejected_total() > 0 {
        let reason = if is_sbom { RefusalReason::NoMatchingSbom } else { RefusalReason::NoMatchingSignature };
        let kinds: Vec<_> = tally.rejected.iter().map(|(why, count)| format!("{count} {why}")).collect();
        return (reason, format!("no {what} that counts: found {}", kinds.join(", ")));
    }
    let reason = if is_sbom { RefusalReason::NoSbom } else { RefusalReason::NoSignature };
    let mut found = format!("no {what}");
    if tally.other_types > 0 {
        found = format!("{found}, but {} attached of another type", tally.other_types);
    }
    if tally.notation > 0 {
        found = format!("{found}; {} Notation signatures, which are not verified", tally.notation);
    }
    (reason, found)
}

/// What to do about a refusal of the image `name` (`host/repository@digest`).
pub(super) fn next_step(reason: RefusalReason, name: &str, platforms: &Platforms) -> String {
    match reason {
        RefusalReason::NoSignature => format!("sign it: cosign sign --key <key> {name}"),
        RefusalReason::NoMatchingSignature => {
            format!("sign it with a key that the policy names: cosign sign --key <key> {name}")
        }
        RefusalReason::BelowThreshold => {
            format!("have another of the named authorities sign it: cosign sign --key <key> {name}")
        }
        RefusalReason::NoSbom | RefusalReason::NoMatchingSbom => {
            format!(
                "attach one under a key that the policy names: cosign attest --key <key> --type cyclonedx --predicate <file> {name}"
            )
        }
        RefusalReason::UnsupportedSbom => {
            "attach CycloneDX 1.4 to 1.7 or SPDX 2.2 or 2.3 as JSON, of a format that the policy accepts".to_owned()
        }
        RefusalReason::StaleSbom => "attach a newly made one that says when it was made".to_owned(),
        RefusalReason::NoPlatform => match platforms {
            Platforms::Any => "push an image that can run".to_owned(),
            Platforms::Only(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
                format!("push an image for {}", nodes.join(", "))
            }
        },
    }
}
