//! Images of workloads: busybox with all its applets, each of its own digest, signed and described as asked.

use std::path::Path;

use serde_json::Value;

use crate::command::run;
use crate::error::Result;
use crate::image::{BUSYBOX, Image, Rootfs, Start, sbom};
use crate::registry::{Reference, Registry};
use crate::signer::{Form, Signer};
use crate::stage::Stage;

/// What the container runs unless the pod says otherwise: it waits.
const ENTRYPOINT: [&str; 3] = ["/usr/bin/tail", "-f", "/dev/null"];

/// A workload's image that was pushed.
#[derive(Debug)]
pub struct Workload<'a> {
    stage: &'a Stage,
    registry: &'a Registry,
    rootfs: Rootfs,
    reference: Reference,
}

impl<'a> Workload<'a> {
    /// The image `workload/<name>:<tag>`. What tells it from others is its name and `content`.
    pub fn push(stage: &'a Stage, name: &str, tag: &str, content: &str) -> Result<Self> {
        Self::push_of(stage, stage.registry(), Rootfs::busybox()?, name, tag, content)
    }

    /// The same in another registry.
    pub fn push_to(stage: &'a Stage, registry: &'a Registry, name: &str, content: &str) -> Result<Self> {
        Self::push_of(stage, registry, Rootfs::busybox()?, name, "1", content)
    }

    /// Such an image with what drift is tried with: programs below `/srv` that are files of their own where busybox's
    /// are one with many names, a script, and `odd`, which executes in ways that a shell has not.
    pub fn push_for_drift(stage: &'a Stage, name: &str, tag: &str, content: &str) -> Result<Self> {
        let rootfs = Rootfs::busybox()?;
        for program in ["/srv/busybox-rewritten", "/srv/busybox-chmod", "/srv/busybox-chmod-again"] {
            rootfs.copy(Path::new(BUSYBOX), program, 0o755)?;
        }
        rootfs.write("/srv/script.sh", b"#!/bin/sh\necho ran\n", 0o755)?;
        rootfs.compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("workload/odd.c"), "/usr/bin/odd")?;
        Self::push_of(stage, stage.registry(), rootfs, name, tag, content)
    }

    /// Such an image with what execs are timed with: `execs`, a program that is linked statically and does nothing, and
    /// this machine's `true` with its loader and its C library, where it is linked dynamically.
    pub fn push_for_timing(stage: &'a Stage, name: &str) -> Result<Self> {
        let rootfs = Rootfs::busybox()?;
        for program in ["execs", "nothing"] {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("workload/{program}.c"));
            rootfs.compile(&source, &format!("/usr/bin/{program}"))?;
        }
        rootfs.copy(Path::new("/bin/true"), "/srv/true", 0o755)?;
        for library in run("ldd", ["/bin/true"])?.split_whitespace().filter(|word| word.starts_with('/')) {
            rootfs.copy(Path::new(library), library, 0o755)?;
        }
        Self::push_of(stage, stage.registry(), rootfs, name, "1", "timing")
    }

    fn push_of(
        stage: &'a Stage,
        registry: &'a Registry,
        rootfs: Rootfs,
        name: &str,
        tag: &str,
        content: &str,
    ) -> Result<Self> {
        // Signatures go by digest: two images that must not share theirs must not share a digest.
        rootfs.write("/etc/image", format!("{name} {content}\n").as_bytes(), 0o644)?;
        let image = Image::of(&rootfs, &Start { entrypoint: &ENTRYPOINT, user: None })?;
        let reference = registry.push(&image, &format!("workload/{name}"), tag)?;
        Ok(Self { stage, registry, rootfs, reference })
    }

    /// Where it is.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Signs it with the cluster's key pair `key`.
    pub fn signed_by(self, key: &str, form: Form) -> Result<Self> {
        self.signer(key)?.sign(self.registry, &self.reference, form)?;
        Ok(self)
    }

    /// Attests its bill of materials with the cluster's key pair `key`.
    pub fn described_by(self, key: &str, form: Form) -> Result<Self> {
        let bom = sbom::cyclonedx(&self.rootfs, &self.reference.repository)?;
        self.signer(key)?.attest(self.registry, &self.reference, "cyclonedx", &bom, form)?;
        Ok(self)
    }

    /// Attests `predicate` under cosign's name of its type, or its URI, with the cluster's key pair `key`.
    pub fn attested_by(self, key: &str, type_: &str, predicate: &Value, form: Form) -> Result<Self> {
        self.signer(key)?.attest(self.stage.registry(), &self.reference, type_, predicate, form)?;
        Ok(self)
    }

    /// Signs and describes it with the key pair `key`, unless that was done before.
    pub fn signed_once(self, key: &str) -> Result<Self> {
        if self.signer(key)?.has_signed(self.registry, &self.reference)? {
            return Ok(self);
        }
        // The signature last: it says that the bill of materials is there as well.
        self.described_by(key, Form::Bundle)?.signed_by(key, Form::Bundle)
    }

    fn signer(&self, key: &str) -> Result<Signer> {
        Signer::named(key, self.stage.keys(), self.registry)
    }
}
