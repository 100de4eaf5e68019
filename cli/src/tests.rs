//! Whole commands, against a registry on this machine.

mod blobs;
#[path = "../../webhook/verify/tests/engine/double.rs"]
#[allow(dead_code, reason = "the engine's tests need more of it")]
mod double;
mod policy;
#[path = "../../webhook/verify/tests/engine/signer.rs"]
#[allow(dead_code, reason = "the engine's tests need more of it")]
mod signer;
mod verify;

use std::path::Path;

use clap::Parser as _;
use serde_json::Value;

use crate::{arguments::Arguments, ending::Ending, run};

/// What a command printed, and how it ended.
struct Ran {
    ending: Ending,
    out: String,
}

/// Runs a command line; an error is what would be printed to standard error.
async fn zastava(arguments: &[&str]) -> Result<Ran, String> {
    let _ = zastava_core::tls::install_provider();
    let line = std::iter::once("kubectl-zastava").chain(arguments.iter().copied());
    let arguments = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    let ending = Box::pin(run(arguments, &mut out)).await.map_err(|error| error.to_string())?;
    Ok(Ran { ending, out: String::from_utf8(out).unwrap() })
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// A file in a folder, and its path.
fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// An empty docker config, or whoever runs the tests would ask with their own.
fn no_credentials(folder: &Path) -> String {
    file(folder, "docker.json", "{\"auths\": {}}")
}

#[tokio::test]
async fn completions_and_version_are_there() {
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let ran = zastava(&["completion", shell]).await.unwrap();
        assert!(ran.ending == Ending::Satisfied && ran.out.contains("verify-blob"), "{shell}");
    }
    let version = zastava(&["--version"]).await.err().unwrap();
    assert_eq!(version.trim(), format!("kubectl-zastava {}", env!("CARGO_PKG_VERSION")));
    let help = zastava(&["verify", "--help"]).await.err().unwrap();
    assert!(help.contains("kubectl zastava verify") && help.contains("Exit codes:"), "{help}");
}
