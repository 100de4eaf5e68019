//! The cluster's certificates and kubeconfigs, made once for its life.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

use super::layout::{Layout, Node};
use crate::error::{At as _, Result};

/// Makes every certificate, key and kubeconfig, unless they are all there.
pub fn issue(layout: &Layout, nodes: u8) -> Result<()> {
    let done = layout.path("pki/complete");
    if done.exists() {
        return Ok(());
    }
    for folder in ["pki", "kubeconfig"] {
        let folder = layout.path(folder);
        fs::create_dir_all(&folder).at(&folder)?;
    }
    let authority = Authority::new()?;
    write(&layout.path("pki/ca.crt"), &authority.certificate)?;

    let control = layout.control().to_string();
    let server = authority.leaf(
        "kube-apiserver",
        None,
        &[
            &control,
            "127.0.0.1",
            &layout.kubernetes_service().to_string(),
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ],
    )?;
    server.write(layout, "pki/apiserver")?;
    authority
        .leaf("kube-apiserver-kubelet-client", Some("system:masters"), &[])?
        .write(layout, "pki/kubelet-client")?;

    let tokens = KeyPair::generate()?;
    write(&layout.path("pki/tokens.key"), &tokens.serialize_pem())?;
    write(&layout.path("pki/tokens.pub"), &tokens.public_key_pem())?;

    let mut clients = vec![
        ("admin".to_owned(), "kubernetes-admin".to_owned(), Some("system:masters")),
        ("controller-manager".to_owned(), "system:kube-controller-manager".to_owned(), None),
        ("scheduler".to_owned(), "system:kube-scheduler".to_owned(), None),
        ("proxy".to_owned(), "system:kube-proxy".to_owned(), None),
    ];
    clients
        .extend(Node::all(nodes).map(|node| (node.to_string(), format!("system:node:{node}"), Some("system:nodes"))));
    for (file, user, group) in clients {
        let leaf = authority.leaf(&user, group, &[])?;
        kubeconfig(layout, &file, &authority.certificate, &leaf)?;
    }
    write(&done, "")
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name = named("zastava-e2e", None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(parameters, key) })
    }

    fn leaf(&self, user: &str, group: Option<&str>, names: &[&str]) -> Result<Leaf> {
        let mut parameters = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        parameters.distinguished_name = named(user, group);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        Ok(Leaf { certificate: parameters.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

impl Leaf {
    fn write(&self, layout: &Layout, stem: &str) -> Result<()> {
        write(&layout.path(&format!("{stem}.crt")), &self.certificate)?;
        write(&layout.path(&format!("{stem}.key")), &self.key)
    }
}

fn named(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}

fn kubeconfig(layout: &Layout, file: &str, authority: &str, leaf: &Leaf) -> Result<()> {
    let context = format!("zastava-{}", layout.name());
    // JSON is YAML: every reader of kubeconfigs takes it.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "clusters": [{"name": context, "cluster": {
            "server": format!("https://{}:6443", layout.control()),
            "certificate-authority-data": base64(authority),
        }}],
        "users": [{"name": context, "user": {
            "client-certificate-data": base64(&leaf.certificate),
            "client-key-data": base64(&leaf.key),
        }}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
    });
    write(&layout.path(&format!("kubeconfig/{file}.json")), &serde_json::to_string_pretty(&config)?)
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// Keys are among these files: readable by their owner only.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).at(path)?;
    file.write_all(text.as_bytes()).at(path)
}
