//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::SignedDuration;
use zastava_verify::image::Platform;

use crate::output::Format;

const EXIT_CODES: &str = "Exit codes:
  0  satisfied: every image under every policy that speaks for it, every test as expected
  1  refused: an image does not satisfy a policy, or a test failed
  2  nothing was judged: wrong usage, or a policy or another file that can't be used
  3  unknown: a registry did not answer, an answer was not recorded, or no policy speaks for an image";

/// Zastava for people and pipelines: what the webhook would say about an image, a file or a workload, and why.
///
/// It is the webhook's own engine, and works without a cluster.
#[derive(Clone, Debug, Parser)]
#[command(name = "kubectl-zastava", bin_name = "kubectl zastava", version, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Verify images under policies, from their registries or from an image layout on disk
    #[command(after_help = EXIT_CODES)]
    Verify(Box<VerifyArguments>),
    /// Verify a file, or what has a digest, under a Sigstore bundle
    #[command(after_help = EXIT_CODES)]
    VerifyBlob(Box<BlobArguments>),
    /// Test policies against cases, and record the answers of registries for it
    Policy {
        /// Which of both
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Print the completion script of a shell
    ///
    /// It completes `kubectl-zastava`; docs/cli.md shows how kubectl completes `kubectl zastava` with it.
    Completion {
        /// Which shell
        shell: Shell,
    },
}

/// `verify-blob`.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("signer").required(true).args(["key", "issuer"]))]
pub struct BlobArguments {
    /// A file, or a digest such as sha256:…
    #[arg(value_name = "FILE|DIGEST")]
    pub blob: String,
    /// The Sigstore bundle, v0.1 to v0.3: a signature over the file, or over a statement whose subject it is
    #[arg(long, value_name = "FILE")]
    pub bundle: PathBuf,
    /// Public key (PEM) that must have signed
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// With --key: the signature must be in a transparency log of the trust root
    #[arg(long, requires = "key")]
    pub require_log: bool,
    /// Issuer of the identity that must have signed, such as https://token.actions.githubusercontent.com
    #[arg(long, value_name = "URL", requires = "identity")]
    pub issuer: Option<String>,
    /// The identity, exactly
    #[arg(long, value_name = "SUBJECT", group = "identity", requires = "issuer", conflicts_with = "key")]
    pub subject: Option<String>,
    /// The identity as a glob, anchored at both ends: * stays within one path segment, ** does not
    #[arg(long, value_name = "GLOB", group = "identity", requires = "issuer", conflicts_with = "key")]
    pub subject_glob: Option<String>,
    /// Trusted root (Sigstore's trusted_root.json). Absent: the bundled public-good root
    #[arg(long, value_name = "FILE")]
    pub trust_root: Option<PathBuf>,
    /// How results are printed
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: Format,
}

/// What to do with a folder of policies and cases.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Decide every case of a folder as the webhook would, over recorded answers and without any connection
    ///
    /// DIR holds ZastavaPolicies and, in resources/, the Namespaces, Secrets, ConfigMaps, ServiceAccounts and Nodes that a
    /// decision rests on; cases/NAME.yaml with what is asked and what is expected; and recorded/, which `policy record`
    /// writes. Signatures are verified anew on the recorded bytes.
    #[command(after_help = EXIT_CODES)]
    Test(TestArguments),
    /// Ask the registries what the cases of a folder need, and write their answers into recorded/
    ///
    /// No credential is written, and the same answers are the same bytes.
    #[command(after_help = EXIT_CODES)]
    Record(RecordArguments),
}

/// `policy test`.
#[derive(Clone, Debug, Args)]
pub struct TestArguments {
    /// The folder
    pub dir: PathBuf,
    /// How results are printed
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: Format,
    /// Write what was decided into each case's expect, instead of failing where it differs
    #[arg(long)]
    pub update: bool,
    /// Write the results into a file as JUnit's XML, too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// How long one case may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// `policy record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArguments {
    /// The folder
    pub dir: PathBuf,
    /// How long one case may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Registries.
    #[command(flatten)]
    pub registries: RegistryArguments,
}

/// `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArguments {
    /// Image references as a pod would name them; with --layout also a digest alone, such as sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
    /// ZastavaPolicies, YAML or JSON, several documents a file; - is standard input
    #[arg(long, short = 'f', required = true, value_name = "FILE")]
    pub policy: Vec<PathBuf>,
    /// Platforms that the image must run on, such as linux/arm64: of an index only their images count. Absent: all
    #[arg(long, value_name = "OS/ARCH", value_parser = platform, value_delimiter = ',')]
    pub platform: Vec<Platform>,
    /// Folder of an OCI image layout (oci-layout, index.json) that is asked instead of registries
    #[arg(long, value_name = "DIR", conflicts_with_all = ["registry_config", "plain_http", "ca", "mirror"])]
    pub layout: Option<PathBuf>,
    /// How results are printed
    #[arg(long, short = 'o', value_enum, default_value_t)]
    pub output: Format,
    /// How long all of it may take; what is not verified by then is unknown
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
    /// Keys that policies refer to.
    #[command(flatten)]
    pub keys: KeyArguments,
    /// Registries.
    #[command(flatten)]
    pub registries: RegistryArguments,
}

/// Where keys and trust roots are that policies refer to by secretRef, configMapRef and trustRoot.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Keys that policies refer to")]
pub struct KeyArguments {
    /// Secrets and ConfigMaps, YAML or JSON
    #[arg(long, value_name = "FILE")]
    pub resource: Vec<PathBuf>,
    /// Folder with a folder for each Secret or ConfigMap and in it a file for each entry, as a volume mounts them
    #[arg(long, value_name = "DIR")]
    pub key_dir: Option<PathBuf>,
    /// Read from the cluster of the current kubeconfig what no file gives
    #[arg(long)]
    pub from_cluster: bool,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", requires = "from_cluster")]
    pub context: Option<String>,
    /// Zastava's namespace, where references resolve
    #[arg(long, short = 'n', value_name = "NAME", default_value = "zastava-system")]
    pub namespace: String,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArguments {
    /// Docker config with credentials. Absent: $DOCKER_CONFIG/config.json, ~/.docker/config.json, then podman's auth.json
    #[arg(long, value_name = "FILE")]
    pub registry_config: Option<PathBuf>,
    /// Registry that is asked over plain HTTP, such as localhost:5000
    #[arg(long, value_name = "HOST")]
    pub plain_http: Vec<String>,
    /// Certificates (PEM) to trust for a registry besides the system's
    #[arg(long, value_name = "HOST=FILE", value_parser = pair)]
    pub ca: Vec<(String, String)>,
    /// Host that is asked in place of a registry
    #[arg(long, value_name = "HOST=HOST", value_parser = pair)]
    pub mirror: Vec<(String, String)>,
}

fn platform(text: &str) -> Result<Platform, String> {
    match text.split_once('/') {
        Some((os, architecture)) if !os.is_empty() && !architecture.is_empty() && !architecture.contains('/') => {
            Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned() })
        }
        _ => Err("write OS/ARCH, such as linux/amd64".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((host, value)) if !host.is_empty() && !value.is_empty() => Ok((host.to_owned(), value.to_owned())),
        _ => Err("write HOST=…, such as registry.example:5000=ca.pem".to_owned()),
    }
}

/// A duration as Go writes it.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|_| "write a duration such as 30s or 1m30s".to_owned())?;
    let bounds = Duration::from_secs(1)..=Duration::from_hours(24);
    let duration = Duration::try_from(parsed).ok().filter(|duration| bounds.contains(duration));
    duration.ok_or_else(|| "write a duration between 1s and 24h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_values_say_what_they_want() {
        Arguments::command().debug_assert();
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        for wrong in ["", "5", "0s", "500ms", "25h", "24h1ms", "1d", "-1s", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(platform("linux/amd64").is_ok() && platform("linux").is_err() && platform("a/b/c").is_err());
        assert!(pair("a=b").is_ok() && pair("a").is_err() && pair("=b").is_err());
        let wrong = Arguments::try_parse_from(["kubectl-zastava", "verify", "a"]).unwrap_err();
        assert!(wrong.to_string().contains("--policy <FILE>") && wrong.exit_code() == 2, "{wrong}");
    }
}
