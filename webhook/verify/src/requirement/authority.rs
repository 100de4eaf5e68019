//! Who may sign: a key, a key whose signatures are logged, or an identity.

use std::sync::Arc;

use zastava_crds::digest::Sha256Digest;

use super::{
    identity::Identity,
    key::PublicKey,
    trust_root::{TrustRoot, TrustRootError},
};

/// Who may sign.
#[derive(Clone, Debug)]
pub struct ResolvedAuthority {
    kind: AuthorityKind,
    label: String,
}

/// How an authority's signatures are verified.
#[derive(Clone, Debug)]
pub enum AuthorityKind {
    /// By exactly this key; no log is looked at.
    Key(PublicKey),
    /// By exactly this key, with an entry in a log of the trust root.
    LoggedKey {
        /// The key.
        key: PublicKey,
        /// Knows the log.
        root: Arc<TrustRoot>,
    },
    /// By a certificate of the trust root that names this identity, with an entry in a log of the trust root.
    Keyless {
        /// Who.
        identity: Identity,
        /// Vouches for it.
        root: Arc<TrustRoot>,
    },
}

/// Who made a signature: two signatures by the same are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signer {
    /// A key, by its fingerprint.
    Key(Sha256Digest),
    /// An identity in a certificate.
    Identity {
        /// OIDC issuer.
        issuer: String,
        /// Email or URI.
        subject: String,
    },
}

impl ResolvedAuthority {
    /// A key without a log.
    pub fn key(key: PublicKey, label: &str) -> Self {
        let label = format!("{label} ({})", key.short());
        Self { kind: AuthorityKind::Key(key), label }
    }

    /// A key whose signatures must be in a log of `root`.
    pub fn logged_key(key: PublicKey, root: Arc<TrustRoot>, label: &str) -> Result<Self, TrustRootError> {
        root.must_have_log()?;
        let label = format!("{label} ({})", key.short());
        Ok(Self { kind: AuthorityKind::LoggedKey { key, root }, label })
    }

    /// An identity that `root` vouches for.
    pub fn keyless(identity: Identity, root: Arc<TrustRoot>, label: &str) -> Result<Self, TrustRootError> {
        root.must_have_log()?;
        root.must_have_authority()?;
        let label = format!("{label} ({identity})");
        Ok(Self { kind: AuthorityKind::Keyless { identity, root }, label })
    }

    /// How its signatures are verified.
    pub fn kind(&self) -> &AuthorityKind {
        &self.kind
    }

    /// How messages name it: where it stands in the policy, and the key's first digits or the identity.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Hash of all that decides what it accepts.
    pub fn fingerprint(&self) -> Sha256Digest {
        let (kind, root) = match &self.kind {
            AuthorityKind::Key(_) => ("key", None),
            AuthorityKind::LoggedKey { root, .. } => ("logged", Some(root)),
            AuthorityKind::Keyless { root, .. } => ("keyless", Some(root)),
        };
        let root = root.map(|root| root.fingerprint().as_str()).unwrap_or_default();
        Sha256Digest::of(format!("{kind}\n{root}\n{}", self.who()).as_bytes())
    }

    /// Whom it accepts, whatever the proof: two authorities that accept the same are one.
    pub(crate) fn who(&self) -> String {
        match &self.kind {
            AuthorityKind::Key(key) | AuthorityKind::LoggedKey { key, .. } => key.fingerprint().to_string(),
            AuthorityKind::Keyless { identity, .. } => identity.unambiguous(),
        }
    }

    /// How messages name it when `signer` signed under it.
    pub(crate) fn label_of(&self, signer: &Signer) -> String {
        match (&self.kind, signer) {
            (AuthorityKind::Keyless { identity, .. }, Signer::Identity { subject, .. }) if identity.is_glob() => {
                format!("{}: {}", self.label, super::identity::shown(subject))
            }
            _ => self.label.clone(),
        }
    }
}
