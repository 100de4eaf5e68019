//! A transparency log of one leaf: entries of Rekor v1 with promise and proof, and of Rekor v2 with a proof alone.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use zastava_crds::digest::Sha256Digest;

use super::{SIGNED_AT, signature_of};
use crate::signer::pae;

pub struct Log {
    key: KeyPair,
}

/// The key or certificate that verifies a signature, as entries record it.
pub struct Verifier {
    /// For Rekor v1.
    pub pem: String,
    /// For Rekor v2.
    pub v2: Value,
}

impl Log {
    pub fn new() -> Self {
        Self { key: KeyPair::generate().unwrap() }
    }

    fn id(&self) -> Vec<u8> {
        hex::decode(Sha256Digest::of(&self.key.subject_public_key_info()).hex()).unwrap()
    }

    pub fn trusted(&self) -> Value {
        json!({"baseUrl": "https://rekor.example", "hashAlgorithm": "SHA2_256",
            "publicKey": {"rawBytes": STANDARD.encode(self.key.subject_public_key_info()),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": {"start": "2020-01-01T00:00:00Z"}},
            "logId": {"keyId": STANDARD.encode(self.id())}})
    }

    /// `dsse` 0.0.1.
    pub fn dsse(&self, envelope: &Value, by: &Verifier) -> Value {
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let hash = |bytes: &[u8]| json!({"algorithm": "sha256", "value": Sha256Digest::of(bytes).hex()});
        let body = json!({"apiVersion": "0.0.1", "kind": "dsse", "spec": {
            "envelopeHash": hash(envelope.to_string().as_bytes()), "payloadHash": hash(&payload),
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": STANDARD.encode(&by.pem)}]}});
        self.v1("dsse", "0.0.1", &body)
    }

    /// `hashedrekord` 0.0.1.
    pub fn hashedrekord(&self, message: &[u8], signature: &[u8], by: &Verifier) -> Value {
        let body = json!({"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": Sha256Digest::of(message).hex()}},
            "signature": {"content": STANDARD.encode(signature), "publicKey": {"content": STANDARD.encode(&by.pem)}}}});
        self.v1("hashedrekord", "0.0.1", &body)
    }

    /// `hashedrekord` 0.0.2 over an envelope: Rekor v2, which knows no time.
    pub fn v2(&self, envelope: &Value, by: &Verifier) -> Value {
        let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let digest = Sha256Digest::of(&pae(envelope["payloadType"].as_str().unwrap(), &payload));
        let mut verifier = by.v2.clone();
        verifier["keyDetails"] = "PKIX_ECDSA_P256_SHA_256".into();
        let body = json!({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": STANDARD.encode(hex::decode(digest.hex()).unwrap())},
            "signature": {"content": STANDARD.encode(signature_of(envelope)), "verifier": verifier}}}});
        let mut entry = self.entry("hashedrekord", "0.0.2", &body);
        entry.as_object_mut().unwrap().retain(|field, _| field != "integratedTime" && field != "inclusionPromise");
        entry
    }

    fn v1(&self, kind: &str, version: &str, body: &Value) -> Value {
        self.entry(kind, version, body)
    }

    fn entry(&self, kind: &str, version: &str, body: &Value) -> Value {
        let body = body.to_string();
        json!({"logIndex": "0", "logId": {"keyId": STANDARD.encode(self.id())},
            "kindVersion": {"kind": kind, "version": version}, "integratedTime": SIGNED_AT.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": STANDARD.encode(self.promise(&body, SIGNED_AT))},
            "inclusionProof": self.proof(&body), "canonicalizedBody": STANDARD.encode(&body)})
    }

    /// The promise that an entry was taken in at a time.
    pub fn promise(&self, body: &str, time: i64) -> Vec<u8> {
        // Fields in the order that canonical JSON gives them.
        let text = format!(
            r#"{{"body":"{}","integratedTime":{time},"logID":"{}","logIndex":0}}"#,
            STANDARD.encode(body),
            hex::encode(self.id())
        );
        self.key.sign(text.as_bytes()).unwrap()
    }

    fn proof(&self, body: &str) -> Value {
        let leaf: Vec<u8> = [&[0], body.as_bytes()].concat();
        let root = STANDARD.encode(hex::decode(Sha256Digest::of(&leaf).hex()).unwrap());
        let note = format!("rekor.example - 1\n1\n{root}\n");
        let signature = [&self.id()[..4], &self.key.sign(note.as_bytes()).unwrap()].concat();
        let checkpoint = format!("{note}\n\u{2014} rekor.example {}\n", STANDARD.encode(signature));
        json!({"logIndex": "0", "rootHash": root, "treeSize": "1", "hashes": [], "checkpoint": {"envelope": checkpoint}})
    }

    /// The same entry as cosign's legacy layout keeps it: the promise without a proof.
    pub fn legacy(&self, entry: &Value) -> String {
        json!({"SignedEntryTimestamp": entry["inclusionPromise"]["signedEntryTimestamp"], "Payload": {
            "body": entry["canonicalizedBody"], "integratedTime": SIGNED_AT, "logIndex": 0,
            "logID": hex::encode(self.id())}})
        .to_string()
    }
}
