//! A timestamp authority (RFC 3161).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SigningKey as _};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zastava_crds::digest::Sha256Digest;

use super::{
    authority::{Certified, Window},
    der::{integer, octets, oid, sequence, set, tlv},
};

const SIGNED_DATA: &[u32] = &[1, 2, 840, 113_549, 1, 7, 2];
const TST_INFO: &[u32] = &[1, 2, 840, 113_549, 1, 9, 16, 1, 4];
const CONTENT_TYPE: &[u32] = &[1, 2, 840, 113_549, 1, 9, 3];
const MESSAGE_DIGEST: &[u32] = &[1, 2, 840, 113_549, 1, 9, 4];
const SHA256: &[u32] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
const ECDSA_SHA256: &[u32] = &[1, 2, 840, 10_045, 4, 3, 2];

pub struct Timestamper {
    root: Certified,
    leaf: Certified,
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    hex::decode(Sha256Digest::of(bytes).hex()).unwrap()
}

impl Timestamper {
    pub fn new() -> Self {
        let root = Certified::root("tsa root");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "tsa");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::TimeStamping];
        Window::LONG.apply(&mut params);
        let leaf = root.below(params);
        Self { root, leaf }
    }

    pub fn trusted(&self) -> Value {
        let certificates = [&self.leaf.der, &self.root.der].map(|der| json!({"rawBytes": STANDARD.encode(der)}));
        json!({"subject": {}, "uri": "https://tsa.example", "certChain": {"certificates": certificates},
            "validFor": {"start": "2020-01-01T00:00:00Z"}})
    }

    /// A token that a signature existed at a time.
    pub fn stamp(&self, signature: &[u8], time: i64) -> String {
        let time = jiff::Timestamp::from_second(time).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
        let algorithm = sequence(&[&oid(SHA256)]);
        let info = sequence(&[
            &integer(1),
            &oid(&[1, 3, 6, 1, 4, 1, 57264, 2]),
            &sequence(&[&algorithm, &octets(&sha256(signature))]),
            &integer(7),
            &tlv(0x18, time.as_bytes()),
        ]);
        let attributes = [
            sequence(&[&oid(CONTENT_TYPE), &set(&[&oid(TST_INFO)])]),
            sequence(&[&oid(MESSAGE_DIGEST), &set(&[&octets(&sha256(&info))])]),
        ]
        .concat();
        let (_, certificate) = X509Certificate::from_der(&self.leaf.der).unwrap();
        let signer = sequence(&[
            &integer(1),
            &sequence(&[certificate.issuer().as_raw(), &tlv(0x02, certificate.raw_serial())]),
            &algorithm,
            &tlv(0xa0, &attributes),
            &sequence(&[&oid(ECDSA_SHA256)]),
            &octets(&self.leaf.key.sign(&tlv(0x31, &attributes)).unwrap()),
        ]);
        let content = sequence(&[&oid(TST_INFO), &tlv(0xa0, &octets(&info))]);
        let data = sequence(&[&integer(3), &set(&[&algorithm]), &content, &set(&[&signer])]);
        STANDARD.encode(sequence(&[&oid(SIGNED_DATA), &tlv(0xa0, &data)]))
    }
}
