//! Container images: made from files, with a digest that is known before they are pushed.

mod rootfs;
pub mod sbom;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::error::{At as _, Result};
pub use rootfs::{BUSYBOX, Rootfs};

/// How a container of the image starts.
#[derive(Debug, Default, Clone)]
pub struct Start<'a> {
    /// The entrypoint.
    pub entrypoint: &'a [&'a str],
    /// `user[:group]`, numeric.
    pub user: Option<&'a str>,
}

/// An OCI image of one layer, as an image layout in a temporary folder.
#[derive(Debug)]
pub struct Image {
    folder: TempDir,
    digest: String,
    size: u64,
}

impl Image {
    /// The image of a root file system: the same files give the same digest.
    pub fn of(rootfs: &Rootfs, start: &Start<'_>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("zastava-image-").tempdir().at(std::env::temp_dir())?;
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).at(&blobs)?;
        let tar = blobs.join("layer");
        rootfs.layer(&tar)?;
        let size = fs::metadata(&tar).at(&tar)?.len();
        let layer = sha256_of(&tar)?;
        fs::rename(&tar, blobs.join(&layer)).at(&tar)?;

        let mut settings = json!({
            "Entrypoint": start.entrypoint,
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        });
        if let Some(user) = start.user {
            settings["User"] = user.into();
        }
        let config = blob(
            &blobs,
            &json!({
                "architecture": architecture(), "os": "linux", "config": settings,
                "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
            }),
            "application/vnd.oci.image.config.v1+json",
        )?;
        // Uncompressed: the registry is near, and a gzip writer's next version would give another digest.
        let manifest = blob(
            &blobs,
            &json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                "layers": [{
                    "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": format!("sha256:{layer}"), "size": size,
                }],
            }),
            "application/vnd.oci.image.manifest.v1+json",
        )?;
        let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest],
        });
        for (name, value) in [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))] {
            let path = folder.path().join(name);
            fs::write(&path, value.to_string()).at(&path)?;
        }
        Ok(Self { folder, digest, size })
    }

    /// `sha256:…` of the manifest.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Bytes of its layer.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The image layout.
    pub fn layout(&self) -> &Path {
        self.folder.path()
    }
}

/// Writes a JSON blob and returns its descriptor.
fn blob(blobs: &Path, content: &Value, media_type: &str) -> Result<Value> {
    let text = content.to_string();
    let hash = hex::encode(Sha256::digest(&text));
    let path = blobs.join(&hash);
    fs::write(&path, &text).at(&path)?;
    Ok(json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": text.len()}))
}

/// The sha256 of a file, in hexadecimal.
pub(crate) fn sha256_of(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).at(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).at(path)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    Ok(hex::encode(hasher.finalize()))
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Where the machine keeps the certificates that it trusts.
pub(crate) fn trusted_certificates() -> Option<PathBuf> {
    let path = Path::new("/etc/ssl/certs/ca-certificates.crt");
    path.exists().then(|| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_digest_and_others_another() {
        let made = |text: &[u8]| {
            let rootfs = Rootfs::new().unwrap();
            rootfs.write("/etc/name", text, 0o644).unwrap();
            Image::of(&rootfs, &Start { entrypoint: &["/a"], user: Some("1:1") }).unwrap().digest().to_owned()
        };
        assert_eq!(made(b"a"), made(b"a"));
        assert_ne!(made(b"a"), made(b"b"));
    }
}
