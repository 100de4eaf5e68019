//! `make demo`: Zastava at work, one printed step after the other.

use std::time::{Duration, Instant};

use kube::Api;
use serde_json::json;
use zastava_crds::finding::FindingType;
use zastava_crds::policy::ZastavaPolicy;

use crate::error::Result;
use crate::product::Product;
use crate::release;
use crate::scene::Scene;
use crate::stage::Stage;
use crate::wait::{Seen, until};
use crate::workload::Workload;

/// The demo's namespace and policy.
const NAME: &str = "demo";

/// Runs the demo; it can be repeated.
pub async fn play(cluster: &str, nodes: u8) -> Result<()> {
    let mut told = Told::new();

    told.step("A Kubernetes cluster");
    let stage = Stage::open(cluster, nodes).await?;
    let version = stage
        .kubectl(&["version", "-o", "json"])
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let version = version.and_then(|version| version["serverVersion"]["gitVersion"].as_str().map(str::to_owned));
    told.done(&format!("Kubernetes {}", version.unwrap_or_else(|| "of unknown version".into())));

    told.step("Zastava's images, built from this tree and pushed");
    let product = Product::push(stage.registry())?;
    told.done(&format!("{}, webhook and observer", product.operator.tagged()));

    told.step("helm install");
    release::install(&stage, &product).await?;
    told.done("the operator runs");

    told.step("Two images of a workload: one signed, with a signed SBOM, and one that is not");
    let signed = Workload::push(&stage, "signed", "1", "demo")?.signed_once(NAME)?;
    let unsigned = Workload::push(&stage, "unsigned", "1", "demo")?;
    told.done("pushed");

    told.step("A ZastavaPolicy: signed images only, and what is no content of the image is killed");
    let scene = Scene::at(&stage, NAME).await?;
    scene
        .policy(json!({
            "mode": "Enforce",
            "admission": scene.signed_by(NAME)?,
            "runtime": {"drift": {"action": "Kill"}},
        }))
        .await?;
    told.done("Ready");

    told.step("The unsigned image is started");
    let message = scene.create(scene.pod("unsigned", &unsigned.reference().tagged())).await?.refused()?;
    told.done("refused:");
    quote(&message);

    told.step("The signed image is started");
    scene.forget("signed").await?;
    let pod = scene.run("signed", &signed.reference().tagged()).await?;
    let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()).and_then(|container| container.image);
    told.done("it runs, pinned to the digest that was verified:");
    quote(&image.unwrap_or_default());

    told.step("A program is dropped into the running container, and executed");
    let dropped = "/tmp/busybox-dropped";
    scene.shell("signed", &format!("cp /bin/busybox {dropped} && echo >>{dropped}"))?.stdout()?;
    let ran = scene.exec("signed", &[dropped, "echo", "the dropped program ran"])?;
    told.done(if ran.success { "it ran" } else { "it was killed before it printed anything" });
    if ran.success {
        quote(&ran.stdout);
    }

    told.step("The finding, and its scan");
    let finding = scene
        .finding("drift of the dropped program, scanned", Duration::from_mins(1), |finding| {
            let scanned = finding
                .status
                .as_ref()
                .and_then(|status| status.scan.as_ref())
                .is_some_and(|scan| scan.verdict.is_some());
            finding.spec.type_ == FindingType::Drift && finding.spec.subject.contains(dropped) && scanned
        })
        .await?;
    let status = finding.status.unwrap_or_default();
    told.done("found:");
    if let Some(evidence) = status.evidence {
        quote(&evidence.message);
    }
    if let Some(scan) = status.scan {
        quote(&format!("scan: {}. {}", scan.summary, scan.message.unwrap_or_default()));
    }

    told.step("The policy's own count, which is renewed at most once in 30 s");
    let policies: Api<ZastavaPolicy> = Api::all(stage.client().await?);
    until("the policy counts the violating pod", Duration::from_mins(1), async || {
        let matched = policies.get(NAME).await?.status.and_then(|status| status.matched).unwrap_or_default();
        let counted = format!("{} of {} pods violate", matched.violating, matched.pods);
        Ok(if matched.violating > 0 { Seen::There(()) } else { Seen::NotYet(counted) })
    })
    .await?;
    told.done("counted");

    for table in [&["get", "zp"][..], &["get", "rf", "-A"]] {
        println!("\n$ kubectl {}\n{}", table.join(" "), stage.kubectl(table)?.trim_end());
    }
    let kubeconfig = stage.kubeconfig().display();
    let tools = stage.tools().bin().display();
    println!("\nGo on by hand:  export KUBECONFIG={kubeconfig} PATH={tools}:$PATH");
    match stage.run() {
        Some(_) => println!("Remove it all:  make demo-down"),
        None => println!(
            "Remove it all:  kubectl delete zp/{NAME} ns/{NAME}; helm uninstall zastava -n {}",
            release::NAMESPACE
        ),
    }
    Ok(())
}

/// What was told, and when.
struct Told {
    began: Instant,
    step: Instant,
    count: u8,
}

impl Told {
    fn new() -> Self {
        Self { began: Instant::now(), step: Instant::now(), count: 0 }
    }

    fn step(&mut self, what: &str) {
        self.count += 1;
        self.step = Instant::now();
        println!("\n{:>2}. {what}", self.count);
    }

    fn done(&self, what: &str) {
        let (step, all) = (self.step.elapsed().as_secs_f32(), self.began.elapsed().as_secs_f32());
        println!("    {what}  [{step:.1} s, {all:.0} s in all]");
    }
}

fn quote(text: &str) {
    for line in text.trim().lines() {
        println!("    | {line}");
    }
}
