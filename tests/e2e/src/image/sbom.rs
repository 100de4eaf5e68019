//! The bill of materials of a root file system: CycloneDX, every file with its hash.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Rootfs, sha256_of};
use crate::error::{At as _, Result};

/// CycloneDX 1.6: the image, its one package, and that package's files.
pub fn cyclonedx(rootfs: &Rootfs, image: &str) -> Result<Value> {
    let root = rootfs.path();
    let mut files = Vec::new();
    walk(&root, &root, &mut files)?;
    files.sort();
    let files: Vec<Value> = files
        .into_iter()
        .map(|(name, hash)| json!({"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": hash}]}))
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {"type": "container", "name": image}},
        "components": [{
            "type": "application", "bom-ref": "busybox", "name": "busybox", "purl": "pkg:generic/busybox",
            "components": files,
        }],
    }))
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder).at(folder)? {
        let entry = entry.at(folder)?;
        let path = entry.path();
        let kind = entry.file_type().at(&path)?;
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else if kind.is_file() {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            files.push((format!("/{}", inside.display()), sha256_of(&path)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_by_its_path_in_the_image() {
        let rootfs = Rootfs::new().unwrap();
        rootfs.write("/etc/name", b"abc", 0o644).unwrap();
        let bom = cyclonedx(&rootfs, "a").unwrap();
        let file = &bom["components"][0]["components"][0];
        assert_eq!(file["name"], "/etc/name");
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file["hashes"][0]["content"], hash);
    }
}
