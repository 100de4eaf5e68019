//! A certificate authority that vouches for identities, and its certificates.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SigningKey as _,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{SIGNED_AT, der, log::Verifier};

const DAY: i64 = 24 * 3600;
/// OIDC issuer, as Fulcio writes it.
const ISSUER_V2: &[u64] = &[1, 3, 6, 1, 4, 1, 57264, 1, 8];

/// From and until when.
#[derive(Clone, Copy)]
pub struct Window(pub i64, pub i64);

impl Window {
    /// Years around all that is signed.
    pub const LONG: Self = Self(SIGNED_AT - 500 * DAY, SIGNED_AT + 3000 * DAY);
    /// As long as Fulcio's certificates live.
    pub const SHORT: Self = Self(SIGNED_AT - 60, SIGNED_AT + 540);
    /// Over before anything is signed.
    pub const PAST: Self = Self(SIGNED_AT - 500 * DAY, SIGNED_AT - DAY);

    pub fn apply(self, params: &mut CertificateParams) {
        params.not_before = OffsetDateTime::from_unix_timestamp(self.0).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(self.1).unwrap();
    }
}

/// A certificate and its key.
pub struct Certified {
    pub params: CertificateParams,
    pub key: KeyPair,
    pub der: Vec<u8>,
}

impl Certified {
    pub fn root(name: &str) -> Self {
        let (params, key) = (authority(name, Window::LONG), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { params, key, der }
    }

    pub fn below(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().to_vec();
        Self { params, key, der }
    }

    /// A certificate that vouches for an identity: a URI, or an email address.
    pub fn certify(&self, issuer: &str, subject: &str, window: Window) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        let name = subject.to_owned().try_into().unwrap();
        let email = subject.contains('@') && !subject.contains("//");
        params.subject_alt_names = vec![if email { SanType::Rfc822Name(name) } else { SanType::URI(name) }];
        params.custom_extensions = vec![CustomExtension::from_oid_content(ISSUER_V2, der::utf8(issuer))];
        window.apply(&mut params);
        let Certified { key, der, .. } = self.below(params);
        Leaf { key, der }
    }
}

/// What an authority's own certificate says.
pub fn authority(name: &str, window: Window) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // A certificate on the way needs the purpose as well; a trust anchor's is not looked at.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    window.apply(&mut params);
    params
}

pub struct Authority {
    pub root: Certified,
    pub intermediate: Certified,
    /// Whether the trusted root lists the intermediate.
    listed: bool,
}

/// A signer's certificate and its key.
pub struct Leaf {
    key: KeyPair,
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        Self::with_intermediate(Window::LONG)
    }

    /// Whose issuing certificate lives for another time.
    pub fn with_intermediate(window: Window) -> Self {
        let root = Certified::root("fulcio root");
        let intermediate = root.below(authority("fulcio intermediate", window));
        Self { root, intermediate, listed: true }
    }

    /// Makes a trusted root that lists the root's certificate only.
    pub fn trust_root_alone(&mut self) {
        self.listed = false;
    }

    pub fn trusted(&self) -> Value {
        let certificates =
            [&self.intermediate.der, &self.root.der].map(|der| json!({"rawBytes": STANDARD.encode(der)}));
        json!({"subject": {}, "uri": "https://fulcio.example", "certChain": {"certificates": certificates},
            "validFor": {"start": "2020-01-01T00:00:00Z"}})
    }

    /// A certificate of the issuing certificate, as long as Fulcio's live.
    pub fn certify(&self, issuer: &str, subject: &str) -> Leaf {
        self.intermediate.certify(issuer, subject, Window::SHORT)
    }
}

impl Leaf {
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).unwrap()
    }

    pub fn pem(&self) -> String {
        pem(&self.der)
    }

    /// Who verifies, as logs record it.
    pub fn verifier(&self) -> Verifier {
        Verifier { pem: self.pem(), v2: json!({"x509Certificate": {"rawBytes": STANDARD.encode(&self.der)}}) }
    }

    /// Material of a bundle v0.3.
    pub fn certificate(&self) -> Value {
        json!({"certificate": {"rawBytes": STANDARD.encode(&self.der)}})
    }

    /// Material of older bundles, with what a signer sends along.
    pub fn chain(&self, rest: &[&[u8]]) -> Value {
        let chain = [self.der.as_slice()].into_iter().chain(rest.iter().copied());
        let chain: Vec<_> = chain.map(|der| json!({"rawBytes": STANDARD.encode(der)})).collect();
        json!({"x509CertificateChain": {"certificates": chain}})
    }
}

pub fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
