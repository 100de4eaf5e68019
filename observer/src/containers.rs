//! Containers of the node, as the runtime tells over CRI and as cgroups name them.

/// Folders that may hold a CRI socket: containerd, k3s and RKE2, microk8s, k0s, CRI-O.
pub const SOCKETS: [&str; 6] = [
    "/run/containerd",
    "/run/k3s/containerd",
    "/var/snap/microk8s/common/run",
    "/run/k0s",
    "/run/crio",
    "/var/run/crio",
];
