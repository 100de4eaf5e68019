//! Signatures and attestations, made by the real cosign with a key pair of the cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command::{finish, output};
use crate::error::{At as _, Result};
use crate::registry::{Reference, Registry};

/// How cosign writes a signature down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A bundle among the image's referrers: cosign 3's default.
    Bundle,
    /// A tag `sha256-….sig` beside the image: cosign before 3.
    Legacy,
}

/// A cosign key pair in a folder.
#[derive(Debug, Clone)]
pub struct Signer {
    folder: PathBuf,
}

impl Signer {
    /// The key pair `name` below `folder`, made if it is not there.
    pub fn named(name: &str, folder: &Path, registry: &Registry) -> Result<Self> {
        let signer = Self { folder: folder.join(name) };
        if !signer.public().exists() {
            fs::create_dir_all(folder).at(folder)?;
            // Whole or not at all: scenarios beside each other ask for the same pair, and cosign does not overwrite.
            let making = tempfile::tempdir_in(folder).at(folder)?;
            output(cosign(registry).current_dir(making.path()).args(["generate-key-pair"]))?;
            if let Err(error) = fs::rename(making.path(), &signer.folder)
                && !signer.public().exists()
            {
                return Err(error).at(&signer.folder);
            }
        }
        Ok(signer)
    }

    /// The public key, PEM.
    pub fn public_key(&self) -> Result<String> {
        fs::read_to_string(self.public()).at(self.public())
    }

    /// Signs an image. No transparency log: the cluster has none.
    pub fn sign(&self, registry: &Registry, image: &Reference, form: Form) -> Result<()> {
        let mut command = self.command(registry, "sign", form);
        output(command.arg(image.by_digest())).map(drop)
    }

    /// Whether cosign finds a signature of this key on the image.
    pub fn has_signed(&self, registry: &Registry, image: &Reference) -> Result<bool> {
        let mut command = cosign(registry);
        command.args(["verify", "--insecure-ignore-tlog", "--key"]).arg(self.public());
        if registry.plain_http() {
            command.arg("--allow-http-registry");
        }
        Ok(finish(command.arg(image.by_digest()))?.success)
    }

    /// Attests `predicate` of an image under cosign's name of its type (`cyclonedx`, …).
    pub fn attest(
        &self,
        registry: &Registry,
        image: &Reference,
        type_: &str,
        predicate: &Value,
        form: Form,
    ) -> Result<()> {
        let folder = tempfile::tempdir().at(std::env::temp_dir())?;
        let path = folder.path().join("predicate.json");
        fs::write(&path, predicate.to_string()).at(&path)?;
        let mut command = self.command(registry, "attest", form);
        command.args(["--type", type_, "--predicate"]).arg(&path);
        output(command.arg(image.by_digest())).map(drop)
    }

    fn command(&self, registry: &Registry, verb: &str, form: Form) -> Command {
        let mut command = cosign(registry);
        command.arg(verb).arg("--key").arg(self.private()).args([
            "--yes",
            "--tlog-upload=false",
            "--use-signing-config=false",
        ]);
        command.arg(format!("--new-bundle-format={}", form == Form::Bundle));
        if registry.plain_http() {
            command.arg("--allow-http-registry");
        }
        command
    }

    fn public(&self) -> PathBuf {
        self.folder.join("cosign.pub")
    }

    fn private(&self) -> PathBuf {
        self.folder.join("cosign.key")
    }
}

fn cosign(registry: &Registry) -> Command {
    let mut command = registry.tool("cosign");
    command.env("COSIGN_PASSWORD", "");
    command
}
