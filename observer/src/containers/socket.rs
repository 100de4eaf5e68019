//! Where the runtime listens, and whether it is still the same.

use std::{
    fmt, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use tokio::net::UnixStream;

/// Where distributions have their CRI socket.
pub const SOCKETS: [&str; 6] = [
    "/run/containerd/containerd.sock",
    // k3s and RKE2.
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    // microk8s.
    "/var/snap/microk8s/common/run/containerd.sock",
];

/// The observer's own pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for OwnPod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where the runtime is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Paths, the likeliest first.
    pub candidates: Vec<PathBuf>,
    /// The runtime of this node runs it; `None`: the first that answers is taken.
    pub own: Option<OwnPod>,
}

impl Sockets {
    /// Those of the candidates that are sockets.
    pub fn there(&self) -> Vec<PathBuf> {
        let is_socket = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
        self.candidates.iter().filter(|path| is_socket(path)).cloned().collect()
    }
}

/// Which socket it is, and who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// The process that listens, in the observer's pid namespace.
    pub pid: Option<u32>,
}

impl Identity {
    /// As it is now; fails when nobody listens.
    pub async fn of(socket: &Path) -> io::Result<Self> {
        let peer = UnixStream::connect(socket).await?;
        let pid = peer.peer_cred()?.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let meta = std::fs::metadata(socket)?;
        Ok(Self { device: meta.dev(), inode: meta.ino(), pid })
    }
}
