//! What a signer writes: keys, statements, bundles and legacy payloads, in the form that cosign gives them.

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;

/// cosign's predicate of a signature.
pub const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// CycloneDX.
pub const CYCLONEDX: &str = "https://cyclonedx.org/bom";
/// SPDX.
pub const SPDX: &str = "https://spdx.dev/Document";

/// A private key of any kind that policies take.
pub enum Signer {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
}

impl Signer {
    pub fn new() -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    /// One of each kind, by name.
    pub fn of_every_kind() -> Vec<(&'static str, Self)> {
        let rsa = || RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        vec![
            ("P-256", Self::new()),
            ("P-384", Self::Ecdsa(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap())),
            ("Ed25519", Self::Ed25519(Ed25519KeyPair::generate().unwrap())),
            ("RSA PKCS#1", Self::Rsa(rsa(), &RSA_PKCS1_SHA256)),
            ("RSA PSS", Self::Rsa(rsa(), &RSA_PSS_SHA256)),
        ]
    }

    pub fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ecdsa(key) => aws_lc_rs::signature::KeyPair::public_key(key).as_der().unwrap(),
            Self::Ed25519(key) => aws_lc_rs::signature::KeyPair::public_key(key).as_der().unwrap(),
            Self::Rsa(key, _) => aws_lc_rs::signature::KeyPair::public_key(key).as_der().unwrap(),
        };
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ecdsa(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// A DSSE envelope over a statement about an image.
    pub fn envelope(&self, image: &Sha256Digest, predicate_type: &str, predicate: &Value) -> Value {
        self.seal("application/vnd.in-toto+json", statement(image, predicate_type, predicate).to_string().as_bytes())
    }

    /// A DSSE envelope over anything.
    pub fn seal(&self, payload_type: &str, payload: &[u8]) -> Value {
        let signature = self.sign(&pae(payload_type, payload));
        json!({"payload": STANDARD.encode(payload), "payloadType": payload_type,
            "signatures": [{"sig": STANDARD.encode(signature)}]})
    }

    /// A bundle as `cosign sign --key` writes it.
    pub fn bundle(&self, image: &Sha256Digest) -> Value {
        bundle(&self.envelope(image, SIGN, &json!({})))
    }

    /// A bundle as `cosign attest --key` writes it.
    pub fn attestation(&self, image: &Sha256Digest, predicate_type: &str, predicate: &Value) -> Value {
        bundle(&self.envelope(image, predicate_type, predicate))
    }

    /// Payload and signature as `cosign sign --key --new-bundle-format=false` writes them.
    pub fn simple_signing(&self, image: &Sha256Digest) -> (String, String) {
        let payload = json!({"critical": {"identity": {"docker-reference": "registry.example/app"},
            "image": {"docker-manifest-digest": image}, "type": "cosign container image signature"}, "optional": null});
        let payload = payload.to_string();
        let signature = STANDARD.encode(self.sign(payload.as_bytes()));
        (payload, signature)
    }
}

pub fn statement(image: &Sha256Digest, predicate_type: &str, predicate: &Value) -> Value {
    json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{"digest": {"sha256": image.hex()}}],
        "predicateType": predicate_type, "predicate": predicate})
}

pub fn bundle(envelope: &Value) -> Value {
    json!({"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "unused"}}, "dsseEnvelope": envelope})
}

/// Media type of a bundle.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

/// A CycloneDX document with files by path and content.
pub fn cyclonedx(version: &str, created: &str, files: &[(&str, &[u8])]) -> Value {
    let files: Vec<_> = files
        .iter()
        .map(|(path, content)| {
            json!({"type": "file", "name": path,
                "hashes": [{"alg": "SHA-256", "content": Sha256Digest::of(content).hex()}]})
        })
        .collect();
    json!({"bomFormat": "CycloneDX", "specVersion": version, "metadata": {"timestamp": created},
        "components": [{"type": "library", "name": "busybox", "version": "1.37", "purl": "pkg:generic/busybox@1.37",
            "components": files}]})
}
