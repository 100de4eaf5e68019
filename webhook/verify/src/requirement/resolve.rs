//! From an authority as it is written to one that can be verified with.

use zastava_crds::policy::{Authority, Keyless, TransparencyLog, TrustRootRef};

use super::{
    RequirementError,
    authority::ResolvedAuthority,
    identity::{Identity, Subject},
    key::PublicKey,
    store::TrustStore,
    trust_root::{TrustRoot, TrustRootError},
};

/// One authority, with its key or identity and its trust root.
pub(super) fn authority(
    field: &str,
    authority: &Authority,
    store: &impl TrustStore,
) -> Result<ResolvedAuthority, RequirementError> {
    let root = |field: String, reference: Option<&TrustRootRef>| {
        let why = |why| RequirementError::TrustRoot { field: field.clone(), why };
        match reference {
            Some(reference) => store.trust_root(reference).map_err(why),
            None => TrustRoot::public_good().map_err(|error| why(error.to_string())),
        }
    };
    let unusable = |error: TrustRootError| RequirementError::TrustRoot {
        field: format!("{field}.trustRoot"),
        why: error.to_string(),
    };
    match (&authority.key, &authority.keyless) {
        (Some(key), None) => {
            let bad = |why| RequirementError::Key { field: format!("{field}.key"), why };
            let key = store.key(key).map_err(bad)?;
            let key = PublicKey::from_pem(&key).map_err(|error| bad(error.to_string()))?;
            match authority.transparency_log {
                None | Some(TransparencyLog::Ignore) => Ok(ResolvedAuthority::key(key, field)),
                Some(TransparencyLog::Require) => {
                    let root = root(format!("{field}.trustRoot"), authority.trust_root.as_ref())?;
                    ResolvedAuthority::logged_key(key, root, field).map_err(unusable)
                }
            }
        }
        (None, Some(keyless)) => {
            let identity = identity(keyless)
                .map_err(|why| RequirementError::Identity { field: format!("{field}.keyless"), why })?;
            let root = root(format!("{field}.keyless.trustRoot"), keyless.trust_root.as_ref())?;
            ResolvedAuthority::keyless(identity, root, field).map_err(unusable)
        }
        _ => {
            let why = "names nobody: set exactly one of key and keyless".to_owned();
            Err(RequirementError::Identity { field: field.to_owned(), why })
        }
    }
}

fn identity(keyless: &Keyless) -> Result<Identity, String> {
    let subject = match (&keyless.subject, &keyless.subject_glob) {
        (Some(exact), None) => Subject::Exact(exact.clone()),
        (None, Some(glob)) => Subject::Glob(glob.clone()),
        _ => return Err("set exactly one of subject and subjectGlob".to_owned()),
    };
    Identity::new(&keyless.issuer, subject).map_err(|error| error.to_string())
}
