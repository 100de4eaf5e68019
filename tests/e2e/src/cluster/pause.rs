//! The image of every pod's sandbox: busybox's sleep, in the cluster's own registry.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::Run;
use crate::error::Result;
use crate::image::{BUSYBOX, Image, Rootfs, Start};
use crate::registry::Registry;

const REPOSITORY: &str = "e2e/pause";
const TAG: &str = "1";

/// The reference that containerd is configured with.
pub fn reference() -> String {
    format!("{}/{REPOSITORY}:{TAG}", super::layout::REGISTRY)
}

/// Pushes it once the registry answers; quick when it is there.
pub fn push(run: &Run) -> Result<()> {
    let address = (run.layout.registry(), 5000).into();
    run.until("the registry listens", Duration::from_secs(20), || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
    })?;
    let rootfs = Rootfs::new()?;
    rootfs.copy(Path::new(BUSYBOX), "/bin/sleep", 0o755)?;
    let image = Image::of(&rootfs, &Start { entrypoint: &["/bin/sleep", "2147483647"], user: Some("65535:65535") })?;
    Registry::of(&run.layout, &run.tools).push(&image, REPOSITORY, TAG).map(drop)
}
