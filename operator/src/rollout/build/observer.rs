//! The observer's DaemonSet. It is not privileged, but let nobody think it small: hostPID with SYS_PTRACE and a runtime
//! socket is the node.

use std::{collections::BTreeSet, path::Path};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet},
        core::v1::{
            AppArmorProfile, Capabilities, Container, HostPathVolumeSource, PodSecurityContext, PodSpec,
            PodTemplateSpec, SELinuxOptions, SeccompProfile, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};

use super::{
    metadata::{Component, metadata},
    pod::{
        field_env, http_port, intake_volumes, liveness, mount, node_selector, priority_class, pull_secrets, readiness,
        value_env,
    },
};
use crate::rollout::{installation::Installation, validate::Plan};

const NAME: &str = "zastava-observer";
/// Where BPF objects are pinned: links, ring and counters outlive a restart.
const BPFFS: &str = "/sys/fs/bpf";
/// The number of the tracepoint that the kernel's own count of execs needs. Each kernel with tracepoints has the folder.
const TRACEFS: &str = "/sys/kernel/tracing";

pub(super) fn build(installation: &Installation, plan: &Plan, owner: &OwnerReference) -> DaemonSet {
    let observer = &installation.observer;
    let (mut volumes, mut mounts) = intake_volumes();
    let host = HostPaths { volumes: &mut volumes, mounts: &mut mounts };
    host.add(installation);
    let pod = PodSpec {
        service_account_name: Some(NAME.to_owned()),
        // No token of the Kubernetes API ever reaches an observer.
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        image_pull_secrets: pull_secrets(installation),
        priority_class_name: priority_class(&observer.placement),
        node_selector: node_selector(&observer.placement),
        tolerations: Some(observer.placement.tolerations.clone()).filter(|t| !t.is_empty()),
        // Pids in the kernel's events must name the same processes as /proc and pidfd_open do.
        host_pid: Some(true),
        termination_grace_period_seconds: Some(30),
        security_context: Some(PodSecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            // The default profile hides the /proc of confined pods.
            app_armor_profile: Some(AppArmorProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
            // The type of containers that look at others: with the usual one, runtime socket and /proc are out of reach.
            se_linux_options: Some(SELinuxOptions { type_: Some("spc_t".to_owned()), ..SELinuxOptions::default() }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(installation, plan, mounts)],
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    DaemonSet {
        metadata: metadata(installation, Component::Observer, NAME, Some(&observer.namespace), owner),
        spec: Some(DaemonSetSpec {
            selector: Component::Observer.label_selector(),
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::String("10%".to_owned())),
                    max_surge: None,
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(Component::Observer.labels(installation)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}

/// Capabilities with their reasons; the chart's observer.yaml says the same to a reviewer.
fn capabilities(plan: &Plan) -> Vec<String> {
    let mut names = vec![
        // Loads the programs and maps that see each exec.
        "BPF",
        // Attaches them to tracepoints, and opens the counting perf event that the accounting is checked with.
        "PERFMON",
        // Reads /proc/PID/{root,exe,maps} of other users' processes.
        "SYS_PTRACE",
        // Reads and hashes an executed file whatever its mode.
        "DAC_READ_SEARCH",
    ];
    if plan.kills {
        // Ends a process late, through a pidfd.
        names.push("KILL");
    }
    names.into_iter().map(str::to_owned).collect()
}

fn container(installation: &Installation, plan: &Plan, mounts: Vec<VolumeMount>) -> Container {
    let observer = &installation.observer;
    Container {
        name: "observer".to_owned(),
        image: Some(observer.image.clone()),
        image_pull_policy: Some(installation.pull_policy.clone()),
        env: Some(vec![
            field_env("NODE_NAME", "spec.nodeName"),
            field_env("POD_NAME", "metadata.name"),
            field_env("POD_NAMESPACE", "metadata.namespace"),
            value_env("ZASTAVA_INTAKE_NAME", &installation.intake_name()),
            value_env("ZASTAVA_RUNTIME_SOCKETS", &observer.runtime_sockets.join(":")),
            value_env("ZASTAVA_STATE_DIR", &observer.state_directory),
        ]),
        ports: Some(vec![http_port()]),
        readiness_probe: Some(readiness()),
        liveness_probe: Some(liveness()),
        resources: Some(observer.placement.resources.clone()),
        security_context: Some(SecurityContext {
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: Some(capabilities(plan)) }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// The sockets' folders, since a socket that the runtime makes anew would not show through a mount of the socket. One
/// that lies in another is seen through it.
fn folders(sockets: &[String]) -> Vec<&str> {
    let parents: BTreeSet<&Path> = sockets.iter().filter_map(|socket| Path::new(socket).parent()).collect();
    let is_inner = |folder: &Path| folder.ancestors().skip(1).any(|outer| parents.contains(outer));
    parents.iter().filter(|folder| !is_inner(folder)).filter_map(|folder| folder.to_str()).collect()
}

/// What of the node the observer sees.
struct HostPaths<'a> {
    volumes: &'a mut Vec<Volume>,
    mounts: &'a mut Vec<VolumeMount>,
}

impl HostPaths<'_> {
    fn add(mut self, installation: &Installation) {
        let observer = &installation.observer;
        for (number, folder) in folders(&observer.runtime_sockets).into_iter().enumerate() {
            let name = if number == 0 { "runtime".to_owned() } else { format!("runtime-{number}") };
            self.path(&name, folder, true, Some("HostToContainer"));
        }
        // A bpffs that is mounted after the pod was made still shows.
        self.path("bpffs", BPFFS, false, Some("HostToContainer"));
        self.path("tracing", TRACEFS, true, Some("HostToContainer"));
        self.path("state", &observer.state_directory, false, None);
    }

    fn path(&mut self, name: &str, path: &str, read_only: bool, propagation: Option<&str>) {
        self.volumes.push(Volume {
            name: name.to_owned(),
            host_path: Some(HostPathVolumeSource {
                path: path.to_owned(),
                type_: Some("DirectoryOrCreate".to_owned()),
            }),
            ..Volume::default()
        });
        let mut mount = mount(name, path, read_only);
        mount.mount_propagation = propagation.map(str::to_owned);
        self.mounts.push(mount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_folder_is_mounted_once_and_none_within_another() {
        let sockets = ["/run/crio/crio.sock", "/run/k0s/containerd.sock", "/run/crio/other.sock"].map(str::to_owned);
        assert_eq!(folders(&sockets), ["/run/crio", "/run/k0s"]);
        let sockets = ["/run/crio/crio.sock", "/run/cri-dockerd.sock", "/running/x.sock"].map(str::to_owned);
        assert_eq!(folders(&sockets), ["/run", "/running"]);
    }
}
