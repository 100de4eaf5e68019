//! Image references in the form that globs match.

/// `host/repository` of a reference as it was written: without tag and digest, with Docker Hub's implied parts. `None`
/// for an image that has an id alone.
pub fn canonical(reference: &str) -> Option<String> {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    if name.is_empty() || name.starts_with("sha256:") || name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return None;
    }
    let leaf = name.rfind('/').map_or(0, |slash| slash + 1);
    let name = name[leaf..].find(':').map_or(name, |colon| &name[..leaf + colon]);
    let (host, repository) = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", name),
    };
    let host = if host == "index.docker.io" { "docker.io" } else { host };
    let library = host == "docker.io" && !repository.contains('/');
    Some(format!("{host}/{}{repository}", if library { "library/" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_has_one_canonical_form() {
        for (written, expected) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox"),
            ("org/app@sha256:00", "docker.io/org/app"),
            ("index.docker.io/org/app:v1", "docker.io/org/app"),
            ("registry.example:5000/prod/app:v1@sha256:00", "registry.example:5000/prod/app"),
            ("localhost/app:latest", "localhost/app"),
            ("10.0.0.1:5000/app", "10.0.0.1:5000/app"),
        ] {
            assert_eq!(canonical(written).as_deref(), Some(expected), "{written}");
        }
        assert_eq!(canonical("sha256:abc"), None);
        assert_eq!(canonical(&"a".repeat(64)), None);
        assert_eq!(canonical(""), None);
    }
}
