//! Certificates in Secrets, and out of them.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    authority::{Authority, Issued},
    bundle::TrustBundle,
};

/// Entry with the issuing authority, in leaf Secrets and in the ConfigMaps.
pub const CA_KEY: &str = "ca.crt";
const CERT: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The Secret of an authority or a leaf; `issuer` is the authority of a leaf.
fn secret(metadata: ObjectMeta, pair: &Authority, issuer: Option<&Issued>) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let mut data = BTreeMap::from([(CERT.to_owned(), bytes(&pair.cert.pem)), (KEY.to_owned(), bytes(pair.key_pem()))]);
    if let Some(issuer) = issuer {
        data.insert(CA_KEY.to_owned(), bytes(&issuer.pem));
    }
    Secret { metadata, data: Some(data), type_: Some("kubernetes.io/tls".to_owned()), ..Secret::default() }
}

/// The Secret of the authority.
pub fn authority_secret(metadata: ObjectMeta, authority: &Authority) -> Secret {
    secret(metadata, authority, None)
}

/// The Secret of a leaf.
pub fn leaf_secret(metadata: ObjectMeta, leaf: &Authority, issuer: &Issued) -> Secret {
    secret(metadata, leaf, Some(issuer))
}

fn entry<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

/// The authority in a Secret; absent when it can't be used, which is as good as lost.
pub fn read_authority(secret: &Secret) -> Option<Authority> {
    Authority::from_pem(entry(secret, CERT)?, entry(secret, KEY)?).ok()
}

/// The leaf in a Secret and the authority beside it; absent when it can't be served, which is as good as lost.
pub fn read_leaf(secret: &Secret) -> Option<(Issued, TrustBundle)> {
    let leaf = Issued::from_pem(entry(secret, CERT)?).ok()?;
    rcgen::KeyPair::from_pem(entry(secret, KEY)?).ok()?;
    let issuers = TrustBundle::parse(entry(secret, CA_KEY)?);
    (!issuers.is_empty()).then_some((leaf, issuers))
}

/// The leaf in a Secret with chain and key as they are served; absent when it can't be.
pub fn read_pair(secret: &Secret) -> Option<(Issued, &str, &str)> {
    let (leaf, _) = read_leaf(secret)?;
    Some((leaf, entry(secret, CERT)?, entry(secret, KEY)?))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_lost() {
        let now = Timestamp::now();
        let ca = Authority::mint(now).unwrap();
        let leaf = ca.issue(&["a.b.svc".into()], now).unwrap();
        assert_eq!(read_authority(&authority_secret(ObjectMeta::default(), &ca)).unwrap().cert, ca.cert);
        let mut secret = leaf_secret(ObjectMeta::default(), &leaf, &ca.cert);
        let (read, issuers) = read_leaf(&secret).unwrap();
        assert_eq!(read, leaf.cert);
        assert!(issuers.contains(&ca.cert));
        secret.data.as_mut().unwrap().insert(KEY.to_owned(), ByteString(b"damaged".to_vec()));
        assert!(read_leaf(&secret).is_none());
        assert!(read_authority(&Secret::default()).is_none());
    }
}
