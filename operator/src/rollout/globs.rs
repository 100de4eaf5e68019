//! Globs of a policy's runtime part: an observer could only leave out what is none, and with it what it denies.

use globset::GlobBuilder;
use thiserror::Error;
use zastava_crds::policy::RuntimeSpec;

/// A field whose globs can't be used.
#[derive(Debug, Error)]
#[error("spec.runtime.{field}: {source}; write a glob such as /usr/bin/* or **/sh")]
pub struct BadGlob {
    field: &'static str,
    source: globset::Error,
}

/// Whether every glob can be used.
///
/// # Errors
/// [`BadGlob`] names the field and the glob.
pub fn check(runtime: &RuntimeSpec) -> Result<(), BadGlob> {
    let none = Vec::new();
    let (deny, allow) = runtime.processes.as_ref().map_or((&none, &none), |found| (&found.deny, &found.allow));
    for (field, globs) in [("drift.allow", &runtime.drift.allow), ("processes.deny", deny), ("processes.allow", allow)]
    {
        for glob in globs {
            // As observers read them; parsed, and not compiled: it is asked at each look at all policies.
            let parsed = GlobBuilder::new(glob).literal_separator(true).backslash_escape(false).build();
            parsed.map_err(|source| BadGlob { field, source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_field_and_the_glob_are_named() {
        for (field, spec) in [
            ("drift.allow", json!({"drift": {"allow": ["/data", "/a[b"]}})),
            ("processes.deny", json!({"processes": {"deny": ["**/nc", "/a[b"]}})),
            ("processes.allow", json!({"processes": {"deny": ["**/nc"], "allow": ["/a[b"]}})),
        ] {
            let error = check(&serde_json::from_value(spec).unwrap()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("spec.runtime.{field}: ")) && error.contains("/a[b"), "{error}");
        }
        let good =
            json!({"drift": {"allow": ["/data/*"]}, "processes": {"deny": ["**/{sh,bash}"], "allow": ["/bin/sh"]}});
        check(&serde_json::from_value(good).unwrap()).unwrap();
        check(&serde_json::from_value(json!({})).unwrap()).unwrap();
    }
}
