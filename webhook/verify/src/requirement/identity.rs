//! Identities in certificates: an exact issuer, and a subject that is exact or an anchored glob.

use std::fmt;

/// Characters of an issuer or subject that messages show at most.
const MAX_SHOWN: usize = 160;

/// Who a certificate must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    issuer: String,
    subject: Subject,
}

/// The subject of an identity: an email address or a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Exactly this.
    Exact(String),
    /// Anchored at both ends: `*` stays within one path segment, `**` does not, all else is literal.
    Glob(String),
}

/// What is no identity.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdentityError {
    /// No issuer.
    #[error("issuer is empty: name the OIDC issuer, such as https://token.actions.githubusercontent.com")]
    Issuer,
    /// No subject.
    #[error("the subject is empty: name an email address or a URI")]
    Subject,
    /// A glob that everybody matches.
    #[error("subjectGlob {0:?} matches everybody: name at least a part of the subject")]
    Everybody(String),
    /// A glob in another language.
    #[error("subjectGlob {0:?}: {1:?} is no wildcard here; use * and **, or a second authority for an alternative")]
    Wildcard(String, char),
}

impl IdentityError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Issuer => "identity_issuer",
            Self::Subject => "identity_subject",
            Self::Everybody(_) => "identity_everybody",
            Self::Wildcard(..) => "identity_wildcard",
        }
    }
}

impl Identity {
    /// Names somebody, or is refused.
    pub fn new(issuer: impl Into<String>, subject: Subject) -> Result<Self, IdentityError> {
        let issuer = issuer.into();
        if issuer.trim().is_empty() {
            return Err(IdentityError::Issuer);
        }
        match &subject {
            Subject::Exact(text) | Subject::Glob(text) if text.trim().is_empty() => return Err(IdentityError::Subject),
            Subject::Exact(_) => {}
            Subject::Glob(glob) => {
                if let Some(foreign) = glob.chars().find(|c| "?[]{}\\".contains(*c)) {
                    return Err(IdentityError::Wildcard(glob.clone(), foreign));
                }
                if !glob.chars().any(char::is_alphanumeric) {
                    return Err(IdentityError::Everybody(glob.clone()));
                }
            }
        }
        Ok(Self { issuer, subject })
    }

    /// Whether a certificate that names this issuer and subject names this identity.
    pub(crate) fn matches(&self, issuer: &str, subject: &str) -> bool {
        let of_subject = match &self.subject {
            Subject::Exact(exact) => exact == subject,
            Subject::Glob(glob) => glob_matches(glob.as_bytes(), subject.as_bytes()),
        };
        of_subject && self.issuer == issuer
    }

    pub(crate) fn is_glob(&self) -> bool {
        matches!(self.subject, Subject::Glob(_))
    }

    /// A text that no other identity has.
    pub(crate) fn unambiguous(&self) -> String {
        let (kind, subject) = match &self.subject {
            Subject::Exact(subject) => ("exact", subject),
            Subject::Glob(subject) => ("glob", subject),
        };
        format!("{}:{} {kind} {subject}", self.issuer.len(), self.issuer)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Subject::Exact(subject) | Subject::Glob(subject)) = &self.subject;
        write!(f, "{} of {}", shown(subject), shown(&self.issuer))
    }
}

/// A text from outside as messages show it: short, and of printable ASCII alone.
pub(crate) fn shown(text: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(printable).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

/// Whether all of `text` matches. Without recursion or backtracking: the work is bounded by the product of both lengths.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    // reached[i]: the glob up to here matches the first i bytes of the text.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < glob.len() {
        let stars = glob[at..].iter().take_while(|byte| **byte == b'*').count();
        let mut next = vec![false; text.len() + 1];
        if stars == 0 {
            for i in 0..text.len() {
                next[i + 1] = reached[i] && text[i] == glob[at];
            }
            at += 1;
        } else {
            next[0] = reached[0];
            for i in 0..text.len() {
                next[i + 1] = reached[i + 1] || (next[i] && (stars > 1 || text[i] != b'/'));
            }
            at += stars;
        }
        reached = next;
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_is_anchored_and_a_star_stays_in_its_segment() {
        let matches = |glob: &str, text: &str| glob_matches(glob.as_bytes(), text.as_bytes());
        let workflow = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1";
        for glob in [
            workflow,
            "https://github.com/acme/*/.github/workflows/release.yml@refs/tags/v*",
            "https://github.com/acme/**",
            "https://github.com/**/release.yml@**",
            "**@refs/tags/v1",
        ] {
            assert!(matches(glob, workflow), "{glob}");
        }
        for glob in [
            "https://github.com/acme/*",
            "https://github.com/acme/*/release.yml@refs/tags/v1",
            "github.com/acme/**",
            "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v",
            "*acme*",
            "",
        ] {
            assert!(!matches(glob, workflow), "{glob}");
        }
        // A dot is a dot, and a prefix is not enough.
        assert!(!matches("https://github.com/acme/app*", "https://githubXcom/acme/app"));
        assert!(!matches("*@acme.example", "eve@acme.example.attacker.example"));
        assert!(!matches("*@acme.example", "eve@evil.example/@acme.example"));
        assert!(matches("*@acme.example", "ops@acme.example"));
    }

    #[test]
    fn a_long_glob_on_a_long_text_ends() {
        let glob = "*a".repeat(256);
        let text = "a".repeat(4096) + "b";
        assert!(!glob_matches(glob.as_bytes(), text.as_bytes()));
    }

    #[test]
    fn nobody_and_everybody_are_no_identities() {
        let glob = |text: &str| Identity::new("https://issuer.example", Subject::Glob(text.to_owned()));
        assert_eq!(Identity::new("", Subject::Exact("a@b".to_owned())), Err(IdentityError::Issuer));
        assert_eq!(Identity::new("https://i", Subject::Exact(" ".to_owned())), Err(IdentityError::Subject));
        for all in ["*", "**", "*/**", "*@*"] {
            assert_eq!(glob(all), Err(IdentityError::Everybody(all.to_owned())));
        }
        assert!(matches!(glob("{a,b}@acme.example"), Err(IdentityError::Wildcard(_, '{'))));
        assert!(glob("*@acme.example").is_ok());
    }

    #[test]
    fn what_a_certificate_says_is_shown_short_and_harmless() {
        assert_eq!(shown("a\u{202e}b\nc d"), "a?b?c?d");
        assert!(shown(&"x".repeat(10_000)).len() < 200);
    }
}
