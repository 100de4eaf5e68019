//! What was written to the API server, and by whom.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;
use zastava_e2e::release;
use zastava_e2e::stage::Stage;

use super::{MADE, OBSERVERS, OWN};

/// The API server's audit log, read on from where it was read last. Only a cluster of the harness has one.
pub struct Writes {
    log: PathBuf,
    at: u64,
}

impl Writes {
    /// From now on.
    pub fn from_now(stage: &Stage) -> anyhow::Result<Option<Self>> {
        let Some(run) = stage.run() else { return Ok(None) };
        let log = run.logs().join("audit.jsonl");
        let at = std::fs::metadata(&log).with_context(|| log.display().to_string())?.len();
        Ok(Some(Self { log, at }))
    }

    /// Zastava's writes since the last look.
    pub fn since(&mut self) -> anyhow::Result<Vec<String>> {
        let mut file = File::open(&self.log)?;
        if file.metadata()?.len() < self.at {
            self.at = 0; // a new file: the old one was full
        }
        file.seek(SeekFrom::Start(self.at))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line that is being written is left for the next look.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        self.at += whole as u64;
        Ok(text[..whole]
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter_map(|entry| write(&entry))
            .collect())
    }
}

/// A write of Zastava's programs, in words. The lease is what tells that a leader lives, and reviews are never stored.
fn write(entry: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let user = text(&entry["user"]["username"]);
    let ours = [release::NAMESPACE, OBSERVERS]
        .iter()
        .any(|of| user.starts_with(&format!("system:serviceaccount:{of}:zastava-")));
    let target = &entry["objectRef"];
    let resource = text(&target["resource"]);
    if !ours || ["leases", "tokenreviews", "subjectaccessreviews"].contains(&resource.as_str()) {
        return None;
    }
    let sub = target["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
    let (verb, namespace, name) = (text(&entry["verb"]), text(&target["namespace"]), text(&target["name"]));
    Some(format!("{user} {verb} {resource}{sub} {namespace}/{name}, answered {}", entry["responseStatus"]["code"]))
}

/// The version of each policy, each finding and each object that Zastava made.
pub fn versions(stage: &Stage) -> anyhow::Result<Vec<String>> {
    let shape = "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let mut versions = Vec::new();
    for (kinds, labels) in [(MADE, OWN), ("zastavapolicies,runtimefindings", "")] {
        let text = stage.kubectl(&["get", kinds, "--all-namespaces", "--selector", labels, "--output", shape])?;
        versions.extend(text.lines().map(str::to_owned));
    }
    versions.sort();
    Ok(versions)
}
