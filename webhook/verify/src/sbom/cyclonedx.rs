//! CycloneDX 1.4 to 1.7, as far as files go.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    files::{Files, sha256},
    or_default,
};

#[derive(Deserialize)]
pub(super) struct Bom {
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "or_default")]
    components: Vec<Component>,
    #[serde(default, deserialize_with = "or_default")]
    dependencies: Vec<Dependency>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    component: Option<Component>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Component {
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    type_: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    version: Option<String>,
    purl: Option<String>,
    bom_ref: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    hashes: Vec<Hash>,
    #[serde(default, deserialize_with = "or_default")]
    components: Vec<Component>,
    #[serde(default, deserialize_with = "or_default")]
    evidence: Evidence,
    /// Given to packages when they are collected; a `bom-ref` is optional.
    #[serde(skip)]
    number: Option<u32>,
}

#[derive(Deserialize)]
struct Hash {
    #[serde(default, deserialize_with = "or_default")]
    alg: String,
    #[serde(default, deserialize_with = "or_default")]
    content: String,
}

#[derive(Default, Deserialize)]
struct Evidence {
    #[serde(default, deserialize_with = "or_default")]
    occurrences: Vec<Occurrence>,
}

#[derive(Deserialize)]
struct Occurrence {
    location: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    ref_: String,
    #[serde(default, deserialize_with = "or_default")]
    depends_on: Vec<String>,
}

/// Who owns a file: the package around it, the package that names it among its occurrences, or one that depends on it.
struct Owners {
    by_ref: HashMap<String, u32>,
    by_location: HashMap<String, u32>,
}

impl Bom {
    pub(super) fn files(self, files: &mut Files) -> Result<(), String> {
        let mut owners = Owners { by_ref: HashMap::new(), by_location: HashMap::new() };
        let mut roots: Vec<_> = self.metadata.component.into_iter().chain(self.components).collect();
        let mut packages = HashMap::new();
        for component in &mut roots {
            collect_packages(component, files, &mut packages, &mut owners);
        }
        for dependency in self.dependencies {
            if let Some(package) = packages.get(&dependency.ref_) {
                for file in dependency.depends_on {
                    owners.by_ref.entry(file).or_insert(*package);
                }
            }
        }
        roots.iter().try_for_each(|component| list(component, None, &owners, files))
    }
}

fn is_file(component: &Component) -> bool {
    component.type_ == "file"
}

fn collect_packages(
    component: &mut Component,
    files: &mut Files,
    packages: &mut HashMap<String, u32>,
    owners: &mut Owners,
) {
    if !is_file(component)
        && let Some(number) = files.component(label(component))
    {
        component.number = Some(number);
        if let Some(bom_ref) = &component.bom_ref {
            packages.insert(bom_ref.clone(), number);
        }
        for location in component.evidence.occurrences.iter().filter_map(|occurrence| occurrence.location.as_ref()) {
            owners.by_location.insert(location.clone(), number);
        }
    }
    for child in &mut component.components {
        collect_packages(child, files, packages, owners);
    }
}

fn list(component: &Component, parent: Option<u32>, owners: &Owners, files: &mut Files) -> Result<(), String> {
    let mut around = parent;
    if is_file(component) {
        let hash = component.hashes.iter().find(|hash| hash.alg == "SHA-256").and_then(|hash| sha256(&hash.content));
        if let Some(hash) = hash {
            let by_ref = component.bom_ref.as_ref().and_then(|bom_ref| owners.by_ref.get(bom_ref)).copied();
            let by_location = owners.by_location.get(&component.name).copied();
            files.list(&component.name, hash, parent.or(by_ref).or(by_location))?;
        }
    } else {
        around = component.number.or(parent);
    }
    component.components.iter().try_for_each(|child| list(child, around, owners, files))
}

fn label(component: &Component) -> String {
    match (&component.purl, &component.version) {
        (Some(purl), _) => purl.clone(),
        (None, Some(version)) => format!("{}@{version}", component.name),
        (None, None) => component.name.clone(),
    }
}
