//! Which node this is. The observer can't ask the Kubernetes API, but its token says it: the API server wrote it there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// The node as the token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name.
    pub node: String,
    /// UID of the Node object: part of every event's id and of every batch's mark.
    pub node_uid: String,
}

/// A token that does not tell the node.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No file.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No token of Kubernetes.
    #[error("{} holds no token of a service account: {what}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong; never the token.
        what: &'static str,
    },
    /// The API server does not bind tokens to nodes.
    #[error("the token names no node: Kubernetes 1.32 or later does (ServiceAccountTokenPodNodeInfo)")]
    NoNode,
    /// Somebody else's token.
    #[error("the token is of node {found}, and this is {expected}")]
    OtherNode {
        /// What the token says.
        found: String,
        /// What NODE_NAME says.
        expected: String,
    },
}

impl IdentityError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "token_unreadable",
            Self::Form { .. } => "token_form",
            Self::NoNode => "token_no_node",
            Self::OtherNode { .. } => "token_other_node",
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
struct Kubernetes {
    node: Option<Node>,
}

#[derive(Deserialize)]
struct Node {
    name: String,
    uid: String,
}

/// Reads the token in `path`. Its signature is the intake's to check: here it only has to be the one that is sent.
///
/// # Errors
/// [`IdentityError`].
pub fn read(path: &Path, expected: &str) -> Result<Identity, IdentityError> {
    let token =
        fs::read_to_string(path).map_err(|source| IdentityError::Unreadable { path: path.to_owned(), source })?;
    let wrong = |what| IdentityError::Form { path: path.to_owned(), what };
    let claims = token.trim().split('.').nth(1).ok_or_else(|| wrong("no claims"))?;
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| wrong("claims that are no base64"))?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| wrong("claims that can't be read"))?;
    let node = claims.kubernetes.and_then(|kubernetes| kubernetes.node).ok_or(IdentityError::NoNode)?;
    if node.name != expected {
        return Err(IdentityError::OtherNode { found: node.name, expected: expected.to_owned() });
    }
    Ok(Identity { node: node.name, node_uid: node.uid })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn token(claims: &str) -> Result<Identity, IdentityError> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims))).unwrap();
        read(&path, "node-1")
    }

    #[test]
    fn the_node_is_what_the_token_says() {
        // As Kubernetes 1.37 writes them.
        let claims = r#"{"aud":["zastava-intake"],"exp":1,"iat":0,"iss":"https://kubernetes.default.svc","jti":"j",
            "kubernetes.io":{"namespace":"zastava-observer","node":{"name":"node-1","uid":"u-1"},
            "pod":{"name":"p","uid":"u-2"},"serviceaccount":{"name":"zastava-observer","uid":"u-3"}},"nbf":0}"#;
        assert_eq!(token(claims).unwrap(), Identity { node: "node-1".to_owned(), node_uid: "u-1".to_owned() });
        assert!(matches!(token(&claims.replace("node-1", "node-2")), Err(IdentityError::OtherNode { .. })));
        assert!(matches!(token(r#"{"kubernetes.io":{"namespace":"n"}}"#), Err(IdentityError::NoNode)));
        assert!(matches!(token("{}"), Err(IdentityError::NoNode)));
        assert!(matches!(token("no"), Err(IdentityError::Form { .. })));
        assert!(matches!(read(Path::new("/nowhere/token"), "n"), Err(IdentityError::Unreadable { .. })));
    }
}
