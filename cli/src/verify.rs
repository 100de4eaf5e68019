//! `verify`: images under policies.

mod report;

use std::{io, sync::Arc};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use zastava_admission::policies::policy::{Labels, Occurrence, Policy, Requirements, Standing};
use zastava_crds::digest::{DigestKind, ImageDigest};
use zastava_verify::{
    image::{ImageReference, Platforms},
    keychain::Keychain,
    registry::{layout::Layout, transport::Transport},
    verdict::Verdict,
    verifier::{Verifier, VerifierSettings},
};

use self::report::{Evidence, Report, Row, Word};
use crate::{
    arguments::VerifyArguments,
    cluster::Elsewhere,
    docker_config, documents,
    ending::Ending,
    failure::Failure,
    output,
    policies::{self, PolicyError, Written},
    registries::{self, RegistriesError},
    resources::Resources,
};

/// Verdicts that are asked for at once.
const AT_ONCE: usize = 16;
/// The name of an image of which only the digest is known.
const NAMELESS: &str = "layout.invalid/image";

/// An image that can't be verified, whatever its registry says.
#[derive(Debug, thiserror::Error)]
#[error("{image:?}: {why}")]
pub struct ImageError {
    image: String,
    why: String,
}

struct Bench<'a> {
    standings: Vec<(&'a Written, Standing)>,
    verifier: Verifier,
    keychain: Keychain,
    platforms: Platforms,
    deadline: Instant,
}

/// Verifies, and prints what came of it.
pub async fn run(arguments: &VerifyArguments, out: &mut Vec<u8>) -> Result<Ending, Failure> {
    let deadline = Instant::now() + arguments.timeout;
    let written = policies::read(&arguments.policy)?;
    let images = arguments
        .images
        .iter()
        .map(|image| reference(image, arguments.layout.is_some()))
        .collect::<Result<Vec<_>, _>>()?;
    let standings = standings(arguments, &written).await?;
    let transport = match &arguments.layout {
        Some(folder) => Some(Arc::new(Layout::open(folder).map_err(RegistriesError::from)?) as Arc<dyn Transport>),
        None => None,
    };
    let keychain = if transport.is_some() {
        Keychain::default()
    } else {
        let asked = written.iter().flat_map(Written::base_images).chain(images.iter().cloned());
        docker_config::keychain(&arguments.registries, &asked.collect::<Vec<_>>()).await?
    };
    let settings = VerifierSettings { work_timeout: arguments.timeout, ..VerifierSettings::default() };
    let bench = Bench {
        standings,
        verifier: Verifier::new(registries::registry(&arguments.registries, transport)?, settings),
        keychain,
        platforms: Platforms::of(arguments.platform.iter().cloned()),
        deadline,
    };
    let pairs = images.iter().flat_map(|image| bench.standings.iter().map(move |standing| (image, standing)));
    let results = stream::iter(pairs)
        .map(|(image, (written, standing))| bench.one(image, written, standing))
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    let report = Report::of(results);
    output::print(out, arguments.output, &report, |out: &mut Vec<u8>| -> io::Result<()> { report.table(out) })?;
    Ok(report.ending())
}

async fn standings<'a>(
    arguments: &VerifyArguments,
    written: &'a [Written],
) -> Result<Vec<(&'a Written, Standing)>, Failure> {
    let mut resources = Resources::new(&arguments.keys.namespace);
    for file in &arguments.keys.resource {
        resources.take(documents::read(file)?)?;
    }
    if let Some(folder) = &arguments.keys.key_dir {
        resources.take_folder(folder)?;
    }
    let elsewhere = Elsewhere::of(&arguments.keys).await?;
    let keys = resources
        .keyring(written.iter().map(|written| &written.policy), async |source| elsewhere.content(source).await)
        .await;
    let compiled = written.iter().map(|written| Ok((written, written.compile(&keys)?)));
    compiled.collect::<Result<_, PolicyError>>().map_err(Failure::from)
}

impl Row {
    /// What the registry shows satisfies. What the policy asks of the backend beside it can't be said here.
    fn satisfied(mut self, policy: &Policy, message: &str) -> Self {
        if policy.verdict.is_none() {
            return self.says(Word::Satisfied, message);
        }
        self.requirement = Some("verdict".to_owned());
        self.next_step = Some("ask the webhook: kubectl apply --dry-run=server".to_owned());
        self.says(Word::Unknown, "what the registry shows satisfies; the backend is not asked from here")
    }
}

/// An image as it was named; of a layout its digest is enough.
fn reference(image: &str, in_layout: bool) -> Result<ImageReference, ImageError> {
    let named =
        if in_layout && image.starts_with("sha256:") { format!("{NAMELESS}@{image}") } else { image.to_owned() };
    named.parse().map_err(|error: zastava_verify::image::ReferenceError| ImageError {
        image: image.chars().take(330).collect(),
        why: error.to_string(),
    })
}

impl Bench<'_> {
    /// Whether a policy in force speaks for an image.
    fn is_selected(&self, image: &ImageReference) -> bool {
        self.standings.iter().any(|(_, standing)| match standing {
            Standing::InForce(policy) => policy.scope.has_image(image),
            Standing::Skipped { .. } => false,
        })
    }

    async fn one(&self, image: &ImageReference, written: &Written, standing: &Standing) -> Row {
        let mut row = Row::of(image.written(), &written.name(), written.policy.spec.mode);
        let policy = match standing {
            Standing::InForce(policy) => policy,
            Standing::Skipped { reason, .. } => return row.says(Word::NotInForce, reason),
        };
        // An exception for a namespace or for a pod's labels speaks for no image alone.
        let labels = Labels::new();
        let excepted = |digest| {
            let occurrence = Occurrence { namespace: "", labels: &labels, image, digest };
            policy.exception(occurrence, Timestamp::now()).map(|exception| exception.name.clone())
        };
        if !policy.scope.has_image(image) {
            let name = image.canonical();
            if policy.refuses_unmatched() && !self.is_selected(image) {
                if let Some(name) = excepted(None) {
                    return row.says(Word::Excepted, &format!("by exception {name}"));
                }
                row.requirement = Some("unmatched: Deny".to_owned());
                row.next_step = Some(format!("use an image that a policy selects, or add {name} to spec.match.images"));
                return row.says(Word::Refused, &format!("no policy in force selects {name}"));
            }
            return row.says(Word::NotSelected, &format!("spec.match.images does not select {name}"));
        }
        if let Some(name) = excepted(None) {
            return row.says(Word::Excepted, &format!("by exception {name}"));
        }
        if image.digest().is_none() && policy.requires_written_digests() {
            row.requirement = Some("digests: Require".to_owned());
            row.next_step = Some("write the reference as name@sha256:…".to_owned());
            return row.says(Word::Refused, "the reference has no digest");
        }
        let resolved = match self.verifier.resolve(image, &self.keychain, self.deadline).await {
            Ok(resolved) => resolved,
            Err(unknown) => {
                row.cause = Some(unknown.cause.category());
                row.next_step = Some(registries::advice(unknown.cause, unknown.cause.next_step()));
                return row.says(Word::Unknown, &unknown.message);
            }
        };
        let Requirements::Proof(requirements) = &policy.requirements else {
            row.digest = Some(ImageDigest { kind: DigestKind::Unresolved, digest: resolved.digest().clone() });
            return row.satisfied(policy, "this policy asks for no more than a digest");
        };
        let verdict =
            self.verifier.verify(&resolved, requirements, &self.platforms, &self.keychain, self.deadline).await;
        row.digest = verdict.digest().cloned();
        if let Some(name) = row.digest.as_ref().and_then(|digest| excepted(Some(&digest.digest)))
            && !matches!(verdict, Verdict::Proven(_))
        {
            return row.says(Word::Excepted, &format!("by exception {name}"));
        }
        match verdict {
            Verdict::Proven(proof) => {
                row.evidence = proof.evidence().iter().map(Evidence::from).collect();
                row.expires_at = proof.expires_at().map(|at| at.to_string());
                row.satisfied(policy, "")
            }
            Verdict::Refused(refusal) => {
                row.requirement = Some(refusal.requirement);
                row.reason = Some(refusal.reason.into());
                row.next_step = Some(refusal.next_step);
                row.says(Word::Refused, &refusal.found)
            }
            Verdict::Unknown(unknown) => {
                row.cause = Some(unknown.cause.category());
                row.next_step = Some(registries::advice(unknown.cause, &unknown.next_step));
                row.says(Word::Unknown, &unknown.message)
            }
        }
    }
}
