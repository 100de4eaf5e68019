//! Containers of the node, as the runtime tells over CRI and as cgroups name them.

mod cri;
mod follow;
mod image;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zastava_crds::wire::event::ContainerRef;

pub use cri::{Cri, CriError};
pub use follow::{RuntimeState, follow};
pub use socket::{OwnPod, SOCKETS, Sockets};

/// A container that the runtime knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// What events say of it.
    pub reference: ContainerRef,
    /// Labels of its pod, as they were when the pod was created.
    pub labels: BTreeMap<String, String>,
    /// Other names of the image, for a container whose image was not asked for by name.
    pub image_aliases: Vec<String>,
    /// How the runtime runs it; empty for the default.
    pub handler: String,
    /// Its first process, in the observer's pid namespace; 0 while there is none.
    pub pid: u32,
    /// It is a pod's sandbox: it runs the runtime's pause program and nothing of the pod's.
    pub is_sandbox: bool,
    /// It runs.
    pub running: bool,
}

impl Container {
    /// Its execs are another kernel's.
    pub fn is_sandboxed(&self) -> bool {
        ["kata", "gvisor", "runsc", "firecracker"].iter().any(|name| self.handler.contains(name))
    }
}
