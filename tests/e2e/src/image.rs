//! Container images: made from files, pushed to the cluster's registry, described by an SBOM and signed.

mod rootfs;

use std::path::Path;
use std::process::Command;

use crate::cluster::Run;
use crate::cluster::node::PAUSE;
use crate::command::output;
use crate::error::Result;
pub use rootfs::Rootfs;

/// How a program of an image starts.
#[derive(Debug, Default, Clone)]
pub struct Start<'a> {
    /// The entrypoint.
    pub entrypoint: &'a [&'a str],
    /// `user[:group]`, numeric.
    pub user: Option<&'a str>,
}

/// A command of the tools whose `/etc/hosts` knows the registry's name, without a change to the machine's own.
pub fn tool(run: &Run, program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""])
        .arg(run.layout().hosts_file())
        .arg(run.tools().path(program))
        .env("PATH", run.tools().search_path());
    command
}

/// Pushes `layers` (tar files) as one OCI image and returns its `repository@sha256:…` reference.
pub fn push(run: &Run, reference: &str, layers: &[&Path], start: &Start<'_>) -> Result<String> {
    let files = layers.iter().map(|layer| layer.display().to_string()).collect::<Vec<_>>().join(",");
    output(tool(run, "crane").args(["append", "--insecure", "--oci-empty-base", "-f", &files, "-t", reference]))?;
    let mut mutate = tool(run, "crane");
    mutate.args(["mutate", "--insecure", reference, "-t", reference, "--set-platform", platform()]);
    mutate.args(["--entrypoint", &start.entrypoint.join(",")]);
    mutate.args(["--env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
    if let Some(user) = start.user {
        mutate.args(["--user", user]);
    }
    Ok(output(&mut mutate)?.trim().to_owned())
}

/// Pushes the image of every pod's sandbox: busybox's sleep. Quick when it is there.
pub(crate) fn pause(run: &Run) -> Result<()> {
    if output(tool(run, "crane").args(["digest", "--insecure", PAUSE])).is_ok() {
        return Ok(());
    }
    let rootfs = Rootfs::new()?;
    rootfs.copy(Path::new(rootfs::BUSYBOX), "/bin/sleep", 0o755)?;
    let layer = rootfs.layer()?;
    push(run, PAUSE, &[&layer], &Start { entrypoint: &["/bin/sleep", "2147483647"], user: Some("65535:65535") }).map(drop)
}

fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}
