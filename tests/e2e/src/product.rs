//! Zastava itself: its programs built from this tree, in images from scratch.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command::run;
use crate::error::{Error, Result};
use crate::image::{Image, Rootfs, Start, trusted_certificates};
use crate::registry::{Reference, Registry};

/// The programs, by the names of their binaries and of their images.
const PROGRAMS: [(&str, &str); 3] = [
    ("zastava-operator", "zastava/operator"),
    ("zastava-webhook", "zastava/webhook"),
    ("zastava-observer", "zastava/observer"),
];
/// No image of a release is larger than this, in bytes.
const LARGEST: u64 = 40_000_000;
/// Nor one of unoptimised programs.
const LARGEST_UNOPTIMISED: u64 = 60_000_000;
/// Variable that names cargo's profile; `dev` where it is not set.
const PROFILE: &str = "ZASTAVA_PROFILE";
/// The tag; what is installed goes by digest.
const TAG: &str = "dev";

/// Where the three images are.
#[derive(Debug, Clone)]
pub struct Product {
    /// The operator's.
    pub operator: Reference,
    /// The webhook's.
    pub webhook: Reference,
    /// The observer's.
    pub observer: Reference,
}

impl Product {
    /// Builds the programs and pushes their images; quick when nothing changed.
    pub fn push(registry: &Registry) -> Result<Self> {
        let profile = std::env::var(PROFILE).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "dev".into());
        let largest = if profile == "dev" { LARGEST_UNOPTIMISED } else { LARGEST };
        let built = build(&profile)?;
        let push = |at: usize| {
            let (program, repository) = PROGRAMS[at];
            let image = image(program, &built[at])?;
            if image.size() > largest {
                return Err(Error::Invalid(format!("{repository}: {} bytes; the limit is {largest}", image.size())));
            }
            registry.push(&image, repository, TAG)
        };
        Ok(Self { operator: push(0)?, webhook: push(1)?, observer: push(2)? })
    }
}

/// Builds the programs, and returns where they are in the order of their list.
fn build(profile: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // As part of the workspace: with -p the dependencies would have other features, and be built a second time.
    command.args(["build", "--quiet", "--workspace", "--message-format=json-render-diagnostics"]).current_dir(&root);
    command.args(["--profile", profile]);
    for (program, _) in PROGRAMS {
        command.args(["--bin", program]);
    }
    let failed = |output: String| Error::Command { command: "cargo build".into(), output };
    let built =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|error| failed(error.to_string()))?;
    if !built.status.success() {
        return Err(failed("the programs were not built; the reason is above".into()));
    }
    let text = String::from_utf8_lossy(&built.stdout);
    let executable = |program: &str| {
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|artifact| {
            (artifact["target"]["name"] == program)
                .then(|| artifact["executable"].as_str().map(PathBuf::from))
                .flatten()
        })
    };
    PROGRAMS
        .iter()
        .map(|(program, _)| executable(program).ok_or_else(|| failed(format!("no executable {program}"))))
        .collect()
}

/// The program, without its symbols, and what a program from scratch needs besides: names of users, how names are
/// resolved, and the certificates that the machine trusts.
fn image(program: &str, executable: &Path) -> Result<Image> {
    let rootfs = Rootfs::new()?;
    let inside = format!("/{program}");
    rootfs.copy(executable, &inside, 0o755)?;
    let copy = rootfs.path().join(program);
    run("strip", ["--strip-all", &copy.display().to_string()])?;
    rootfs.write("/etc/passwd", b"root:x:0:0::/:\nzastava:x:65532:65532::/:\n", 0o644)?;
    rootfs.write("/etc/group", b"root:x:0:\nzastava:x:65532:\n", 0o644)?;
    rootfs.write("/etc/nsswitch.conf", b"hosts: files dns\n", 0o644)?;
    if let Some(certificates) = trusted_certificates() {
        // Resolved first: the file may be a link into another folder.
        let certificates = fs::canonicalize(&certificates).unwrap_or(certificates);
        rootfs.copy(&certificates, "/etc/ssl/certs/ca-certificates.crt", 0o644)?;
    }
    Image::of(&rootfs, &Start { entrypoint: &[&inside], user: Some("65532:65532") })
}
