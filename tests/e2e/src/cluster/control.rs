//! The control plane's processes, in its own network namespace: etcd, API server, controllers, scheduler, DNS,
//! registry, and a kube-proxy through which the API server reaches webhooks.

use std::fs;

use super::layout::Node;
use super::process::Process;
use super::{Run, node};
use crate::error::{At as _, Result};

/// The programs of the control plane that a scenario may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The image registry.
    Registry,
    /// The one without the referrers API.
    BareRegistry,
    /// etcd.
    Etcd,
    /// The API server.
    ApiServer,
    /// kube-controller-manager.
    Controllers,
    /// The scheduler.
    Scheduler,
    /// CoreDNS.
    Dns,
    /// kube-proxy of the control plane's namespace.
    Proxy,
}

impl Program {
    /// All of them, in the order in which they start.
    pub const ALL: [Self; 8] = [
        Self::Registry,
        Self::BareRegistry,
        Self::Etcd,
        Self::ApiServer,
        Self::Controllers,
        Self::Scheduler,
        Self::Dns,
        Self::Proxy,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::BareRegistry => "distribution",
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Dns => "coredns",
            Self::Proxy => "control-kube-proxy",
        }
    }
}

/// What the API server writes down: every change and every refused request, by whom; scenarios count them.
const AUDIT: &str = r#"{"apiVersion":"audit.k8s.io/v1","kind":"Policy","omitStages":["RequestReceived"],"rules":[
{"level":"None","verbs":["get","list","watch"]},
{"level":"None","users":["system:kube-scheduler","system:kube-controller-manager"]},
{"level":"Metadata"}]}"#;

/// Writes the configuration files.
pub fn configure(run: &Run) -> Result<()> {
    let layout = &run.layout;
    let folder = layout.path("control");
    fs::create_dir_all(&folder).at(&folder)?;
    let corefile = format!(
        "zastava.test:53 {{\n bind {0}\n errors\n hosts {{\n  {1} registry.zastava.test\n  {2} machine.zastava.test\n }}\n}}\n\
         cluster.local:53 in-addr.arpa:53 {{\n bind {0}\n errors\n kubernetes cluster.local in-addr.arpa {{\n  kubeconfig {3}\n  ttl 5\n }}\n cache 5\n}}\n\
         .:53 {{\n bind {0}\n template ANY ANY {{\n  rcode NXDOMAIN\n }}\n}}\n",
        layout.control(),
        layout.registry(),
        layout.host(),
        layout.kubeconfig().display(),
    );
    for (name, text) in [
        ("Corefile", corefile),
        ("audit.json", AUDIT.to_owned()),
        ("proxy.json", node::proxy(layout, &Node(1).to_string(), "127.0.0.1").to_string()),
    ] {
        let path = folder.join(name);
        super::layout::write(&path, &text)?;
    }
    let hosts = layout.hosts_file();
    let own = fs::read_to_string("/etc/hosts").unwrap_or_default();
    super::layout::write(&hosts, &format!("{own}\n{} registry.zastava.test\n", layout.registry()))
}

/// Starts one program unless it runs.
pub fn start(run: &Run, program: Program) -> Result<()> {
    let layout = &run.layout;
    let tool = |name: &str| run.tools.bin().join(name).display().to_string();
    let file = |name: &str| layout.path(name).display().to_string();
    let kubeconfig = |name: &str| format!("--kubeconfig={}", file(&format!("kubeconfig/{name}.json")));
    let control = layout.control();
    let arguments: Vec<String> = match program {
        Program::Registry => vec![tool("registry"), "--address=:5000".into(), format!("--disk={}", file("registry"))],
        Program::BareRegistry => vec![tool("distribution"), "--address=:5001".into()],
        Program::Etcd => vec![
            tool("etcd"),
            format!("--data-dir={}", file("etcd")),
            "--unsafe-no-fsync".into(),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            "--auto-compaction-mode=periodic".into(),
            "--auto-compaction-retention=5m".into(),
            "--log-level=warn".into(),
        ],
        Program::ApiServer => vec![
            tool("kube-apiserver"),
            format!("--advertise-address={control}"),
            "--secure-port=6443".into(),
            "--etcd-servers=http://127.0.0.1:2379".into(),
            "--allow-privileged=true".into(),
            format!("--client-ca-file={}", file("pki/ca.crt")),
            format!("--tls-cert-file={}", file("pki/apiserver.crt")),
            format!("--tls-private-key-file={}", file("pki/apiserver.key")),
            format!("--kubelet-client-certificate={}", file("pki/kubelet-client.crt")),
            format!("--kubelet-client-key={}", file("pki/kubelet-client.key")),
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            format!("--service-cluster-ip-range={}", layout.services()),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-account-key-file={}", file("pki/tokens.pub")),
            format!("--service-account-signing-key-file={}", file("pki/tokens.key")),
            format!("--audit-policy-file={}", file("control/audit.json")),
            format!("--audit-log-path={}", run.logs.join("audit.jsonl").display()),
            "--audit-log-maxsize=200".into(),
            "--audit-log-maxbackup=2".into(),
            "--profiling=false".into(),
        ],
        Program::Controllers => vec![
            tool("kube-controller-manager"),
            kubeconfig("controller-manager"),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
            "--use-service-account-credentials=true".into(),
            format!("--root-ca-file={}", file("pki/ca.crt")),
            format!("--service-account-private-key-file={}", file("pki/tokens.key")),
            format!("--service-cluster-ip-range={}", layout.services()),
        ],
        Program::Scheduler => vec![
            tool("kube-scheduler"),
            kubeconfig("scheduler"),
            "--leader-elect=false".into(),
            "--bind-address=127.0.0.1".into(),
        ],
        Program::Dns => vec![tool("coredns"), format!("-conf={}", file("control/Corefile"))],
        Program::Proxy => vec![tool("kube-proxy"), format!("--config={}", file("control/proxy.json"))],
    };
    let mut line: Vec<String> =
        vec!["nsenter".into(), format!("--net=/run/netns/{}", layout.control_netns()), "--".into()];
    line.extend(arguments);
    run.ensure(program.name(), line).map(drop)
}

/// Kills one program.
pub fn stop(run: &Run, program: Program) -> Result<()> {
    Process::running(&run.layout.processes(), program.name()).map_or(Ok(()), |process| process.kill())
}
