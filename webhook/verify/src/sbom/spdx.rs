//! SPDX 2.2 and 2.3 JSON, as far as files go.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    files::{Files, sha256},
    or_default,
};

#[derive(Deserialize)]
pub(super) struct Document {
    #[serde(default, deserialize_with = "or_default")]
    packages: Vec<Package>,
    #[serde(default, deserialize_with = "or_default")]
    files: Vec<File>,
    #[serde(default, deserialize_with = "or_default")]
    relationships: Vec<Relationship>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    version_info: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    external_refs: Vec<ExternalRef>,
    #[serde(default, deserialize_with = "or_default")]
    has_files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_type: String,
    reference_locator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(rename = "fileName")]
    path: String,
    #[serde(default, deserialize_with = "or_default")]
    checksums: Vec<Checksum>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    #[serde(rename = "relationshipType")]
    kind: String,
    related_spdx_element: String,
}

impl Document {
    pub(super) fn files(self, files: &mut Files) -> Result<(), String> {
        let mut owners: HashMap<String, u32> = HashMap::new();
        let mut packages: HashMap<String, u32> = HashMap::new();
        for package in self.packages {
            let purl = package.external_refs.into_iter().find(|reference| reference.reference_type == "purl");
            let label = match (purl, package.version_info) {
                (Some(purl), _) => purl.reference_locator,
                (None, Some(version)) => format!("{}@{version}", package.name),
                (None, None) => package.name,
            };
            let Some(number) = files.component(label) else { continue };
            owners.extend(package.has_files.into_iter().map(|file| (file, number)));
            packages.insert(package.id, number);
        }
        for relationship in self.relationships {
            let (package, file) = match relationship.kind.as_str() {
                "CONTAINS" => (relationship.spdx_element_id, relationship.related_spdx_element),
                "CONTAINED_BY" => (relationship.related_spdx_element, relationship.spdx_element_id),
                _ => continue,
            };
            if let Some(number) = packages.get(&package) {
                owners.entry(file).or_insert(*number);
            }
        }
        for file in self.files {
            let hash = file
                .checksums
                .iter()
                .find(|checksum| checksum.algorithm == "SHA256")
                .and_then(|checksum| sha256(&checksum.checksum_value));
            if let Some(hash) = hash {
                files.list(&file.path, hash, owners.get(&file.id).copied())?;
            }
        }
        Ok(())
    }
}
