//! The credentials of the person who runs this: their docker config, and the helpers that it names.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, io,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};
use zastava_verify::{
    image::ImageReference,
    keychain::{Keychain, KeychainError},
};

use crate::{arguments::RegistryArguments, bounded};

/// Bytes of a config, and of a helper's answer, at most.
const MAX_BYTES: u64 = 1024 * 1024;
/// How long a helper may take.
const HELPER: Duration = Duration::from_secs(15);
/// How Docker Hub is called in docker configs.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// What a helper calls a user whose secret is an identity token.
const TOKEN: &str = "<token>";

/// Credentials that can't be had. Messages tell no secret.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// The file can't be read.
    #[error("{}: {source}; name another with --registry-config", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no docker config.
    #[error("{}: {source}", file.display())]
    Malformed {
        /// Which.
        file: PathBuf,
        /// Why.
        source: KeychainError,
    },
    /// A helper that it names did not answer.
    #[error("docker-credential-{helper} for {host}: {why}; {} names it", file.display())]
    Helper {
        /// Which.
        helper: String,
        /// For which registry.
        host: String,
        /// What happened.
        why: String,
        /// The config.
        file: PathBuf,
    },
}

impl DockerConfigError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "docker_config_unreadable",
            Self::Malformed { source, .. } => source.category(),
            Self::Helper { .. } => "credential_helper",
        }
    }
}

/// Which helper has whose credentials.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Helpers {
    creds_store: Option<String>,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// The credentials for some images: of the named config, or of the first one that is where docker and podman keep
/// theirs; none is no error there.
pub async fn keychain(arguments: &RegistryArguments, images: &[ImageReference]) -> Result<Keychain, DockerConfigError> {
    let file = match &arguments.registry_config {
        Some(file) => file.clone(),
        None => match usual_places().into_iter().find(|file| file.is_file()) {
            Some(file) => file,
            None => return Ok(Keychain::default()),
        },
    };
    let malformed = |source| DockerConfigError::Malformed { file: file.clone(), source };
    let bytes = bounded::read(&file, MAX_BYTES)
        .map_err(|source| DockerConfigError::Unreadable { file: file.clone(), source })?
        .ok_or_else(|| malformed(KeychainError::TooLarge))?;
    // The message of serde_json itself could show a value.
    let helpers: Helpers = serde_json::from_slice(&bytes).map_err(|error| {
        malformed(KeychainError::Malformed(format!("line {}, column {}", error.line(), error.column())))
    })?;
    let mut keychain = match Keychain::from_docker_config(&bytes) {
        Ok(keychain) => keychain,
        Err(_) if is_without_credentials(&bytes) => Keychain::default(),
        Err(error) => return Err(malformed(error)),
    };
    for host in hosts(arguments, images) {
        let key = if host == "docker.io" { DOCKER_HUB } else { host };
        let Some(helper) = helpers.cred_helpers.get(key).or(helpers.creds_store.as_ref()) else { continue };
        let wrong = |why: String| DockerConfigError::Helper {
            helper: helper.chars().take(64).collect(),
            host: host.to_owned(),
            why,
            file: file.clone(),
        };
        let program = program(helper).map_err(wrong)?;
        if let Some(Answer { username, secret }) = ask(&program, key).await.map_err(wrong)? {
            let entry = if username == TOKEN {
                json!({"identitytoken": secret})
            } else {
                json!({"username": username, "password": secret})
            };
            let config = json!({"auths": {key: entry}}).to_string();
            keychain = Keychain::from_docker_config(config.as_bytes()).map_err(malformed)?.merged(&keychain);
        }
    }
    Ok(keychain)
}

/// The registries that are asked for images: their own, or the mirrors of these.
fn hosts<'a>(arguments: &'a RegistryArguments, images: &'a [ImageReference]) -> BTreeSet<&'a str> {
    let asked = |image: &'a ImageReference| {
        // Of several mirrors of one host the last counts.
        let mirror = arguments.mirror.iter().rfind(|(host, _)| host == image.host()).map(|(_, mirror)| mirror.as_str());
        mirror.map_or(image.host(), |mirror| mirror.split_once('/').map_or(mirror, |(host, _)| host))
    };
    images.iter().map(asked).collect()
}

fn usual_places() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    let podman = variable("XDG_RUNTIME_DIR").map(|runtime| runtime.join("containers/auth.json"));
    docker.map(|folder| folder.join("config.json")).into_iter().chain(podman).collect()
}

/// A config of other settings only, such as a detach key.
fn is_without_credentials(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes)
        .is_ok_and(|all| !all.contains_key("auths"))
}

/// The program of a helper.
fn program(helper: &str) -> Result<String, String> {
    if helper.is_empty() || !helper.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err("is no name of a helper".to_owned());
    }
    Ok(format!("docker-credential-{helper}"))
}

/// What a helper has for a registry; `None`: nothing.
async fn ask(program: &str, key: &str) -> Result<Option<Answer>, String> {
    let run = async {
        let mut child = Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(key.as_bytes()).await?;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_BYTES).read_to_end(&mut answer).await?;
        }
        Ok::<_, io::Error>((child.wait().await?, answer))
    };
    let (status, answer) = match timeout(HELPER, run).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("no answer in time".to_owned()),
    };
    if status.success() {
        // The answer is a secret: of what is wrong with it nothing is shown.
        return serde_json::from_slice(&answer).map(Some).map_err(|_| "its answer can't be read".to_owned());
    }
    // The protocol's one error that means "nothing there".
    if String::from_utf8_lossy(&answer).contains("credentials not found") {
        return Ok(None);
    }
    Err(format!("ended with {status}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;

    fn script(folder: &Path, text: &str) -> String {
        let path = folder.join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    #[tokio::test]
    async fn a_helper_gives_credentials_none_or_an_error_that_tells_no_secret() {
        let folder = tempfile::TempDir::new().unwrap();
        let gives = r#"read key; [ "$1 $key" = "get r.example" ] && echo '{"Username": "u", "Secret": "hunter2"}'"#;
        let answer = ask(&script(folder.path(), gives), "r.example").await.unwrap().unwrap();
        assert_eq!((answer.username.as_str(), answer.secret.as_str()), ("u", "hunter2"));
        let none = "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1";
        assert!(ask(&script(folder.path(), none), "r.example").await.unwrap().is_none());
        for wrong in ["cat >/dev/null; echo hunter2", "cat >/dev/null; echo hunter2; exit 1"] {
            let why = ask(&script(folder.path(), wrong), "r.example").await.err().unwrap();
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!(program("../../bin/sh").is_err() && program("").is_err() && program("ecr-login").is_ok());
    }

    #[tokio::test]
    async fn a_config_is_read_from_where_it_is_named() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("config.json");
        let named =
            |file: &Path| RegistryArguments { registry_config: Some(file.to_owned()), ..RegistryArguments::default() };
        let images = ["r.example/app:1".parse().unwrap()];
        for (text, empty) in [
            (r#"{"auths": {"r.example": {"username": "u", "password": "p"}}}"#, Some(false)),
            (r#"{"detachKeys": "ctrl-q"}"#, Some(true)),
            (r#"{"credHelpers": {"other.example": "none"}}"#, Some(true)),
            (r#"{"auths": 5}"#, None),
            (r#"{"auths": 5, "credHelpers": {"other.example": "none"}}"#, None),
            (r#"{"auths": {}, "credsStore": 5}"#, None),
        ] {
            fs::write(&file, text).unwrap();
            let found = keychain(&named(&file), &images).await.ok().map(|keychain| keychain.is_empty());
            assert_eq!(found, empty, "{text}");
        }
        assert!(keychain(&named(&folder.path().join("nowhere")), &images).await.is_err());
    }
}
