//! The runtime's CRI, asked for what the observer needs.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{
    Container as Listed, ContainerEventResponse, ContainerState, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, GetEventsRequest, Image, ImageSpec, ImageStatusRequest, ListContainersRequest,
    ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState, image_service_client::ImageServiceClient,
    runtime_service_client::RuntimeServiceClient,
};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};
use zastava_crds::wire::event::ContainerRef;

use super::{
    Container, image,
    socket::{Identity, OwnPod, Sockets},
};

/// The runtime can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// No socket is there.
    #[error("no container runtime's socket in any of {0:?}")]
    NoSocket(Vec<PathBuf>),
    /// Runtimes answer, but this pod is none of theirs: their containers are not this node's.
    #[error(
        "no runtime of {sockets:?} runs the pod {own}; set observer.runtimeSockets to the socket that the kubelet uses"
    )]
    NotOurs {
        /// The sockets that are there.
        sockets: Vec<PathBuf>,
        /// This pod.
        own: OwnPod,
    },
    /// Nobody answers.
    #[error("{socket} does not answer: {problem}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What was said.
        problem: String,
    },
    /// A call failed.
    #[error("{call} failed: {} ({:?})", status.message(), status.code())]
    Call {
        /// Which.
        call: &'static str,
        /// What the runtime said.
        status: Box<Status>,
    },
}

impl CriError {
    /// The closed class of this error, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NoSocket(_) => "cri_no_socket",
            Self::NotOurs { .. } => "cri_not_ours",
            Self::Connect { .. } => "cri_connect",
            Self::Call { .. } => "cri_call",
        }
    }

    fn call(call: &'static str) -> impl Fn(Status) -> Self {
        move |status| Self::Call { call, status: Box::new(status) }
    }
}

/// What happens to containers.
pub type Events = BoxStream<'static, Result<ContainerEventResponse, Status>>;

/// Longest answer that is waited for; the stream of events is not an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lists of a node with a thousand pods are larger than tonic's usual bound.
const MAX_ANSWER: usize = 64 << 20;

pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD: &str = "io.kubernetes.pod.name";
pub const UID: &str = "io.kubernetes.pod.uid";
pub const NAME: &str = "io.kubernetes.container.name";

/// A connection to the runtime.
#[derive(Clone, Debug)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    /// The runtime's process, in the observer's pid namespace.
    pub pid: Option<u32>,
    socket: PathBuf,
    identity: Identity,
    /// Containers of the last list with their state: what is known of one in that state stays true.
    known: HashMap<String, (i32, Container)>,
}

impl Cri {
    /// Connects to the first runtime that runs the observer's own pod.
    pub async fn connect(sockets: &Sockets) -> Result<Self, CriError> {
        let there = sockets.there();
        let mut problem = None;
        for socket in &there {
            let found = async {
                let mut cri = Self::open(socket).await?;
                let ours = match &sockets.own {
                    Some(own) => cri.runs(own).await?,
                    None => true,
                };
                Ok(ours.then_some(cri))
            };
            match found.await {
                Ok(Some(cri)) => {
                    tracing::info!(socket = %socket.display(), "the container runtime of this node");
                    return Ok(cri);
                }
                Ok(None) => tracing::debug!(socket = %socket.display(), "a runtime that does not run this pod"),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(match (problem, &sockets.own) {
            (Some(problem), _) => problem,
            (None, Some(own)) if !there.is_empty() => CriError::NotOurs { sockets: there, own: own.clone() },
            _ => CriError::NoSocket(sockets.candidates.clone()),
        })
    }

    async fn open(socket: &Path) -> Result<Self, CriError> {
        let failed = |problem: String| CriError::Connect { socket: socket.to_owned(), problem };
        // The peer of a first connection is the runtime: its mount namespace is where containers are made from.
        let identity = Identity::of(socket).await.map_err(|error| failed(error.to_string()))?;
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(PATIENCE);
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel),
            pid: identity.pid,
            socket: socket.to_owned(),
            identity,
            known: HashMap::new(),
        })
    }

    /// It is still the runtime that was connected to. A channel connects again by itself, and would not tell.
    pub async fn is_same(&self) -> bool {
        Identity::of(&self.socket).await.is_ok_and(|now| now == self.identity)
    }

    async fn runs(&mut self, own: &OwnPod) -> Result<bool, CriError> {
        let label_selector =
            HashMap::from([(NAMESPACE.to_owned(), own.namespace.clone()), (POD.to_owned(), own.name.clone())]);
        let filter = PodSandboxFilter { label_selector, ..PodSandboxFilter::default() };
        let request = timed(ListPodSandboxRequest { filter: Some(filter) });
        let found = self.runtime.list_pod_sandbox(request).await.map_err(CriError::call("ListPodSandbox"))?;
        let ours =
            |pod: &PodSandbox| label(&pod.labels, NAMESPACE) == own.namespace && label(&pod.labels, POD) == own.name;
        Ok(found.into_inner().items.iter().any(ours))
    }

    /// What happens to containers, from the first poll on. The runtime answers with its first event only, so nothing
    /// may wait for that answer.
    pub fn events(&self) -> Events {
        let mut runtime = self.runtime.clone();
        let open =
            async move { runtime.get_container_events(GetEventsRequest {}).await.map(tonic::Response::into_inner) };
        stream::once(open).try_flatten().boxed()
    }

    /// Every container and sandbox, running ones with their pid.
    pub async fn list(&mut self) -> Result<Vec<Container>, CriError> {
        let request = timed(ListPodSandboxRequest { filter: None });
        let sandboxes = self.runtime.list_pod_sandbox(request).await.map_err(CriError::call("ListPodSandbox"))?;
        let sandboxes: BTreeMap<String, PodSandbox> =
            sandboxes.into_inner().items.into_iter().map(|sandbox| (sandbox.id.clone(), sandbox)).collect();
        let request = timed(ListContainersRequest { filter: None });
        let containers = self.runtime.list_containers(request).await.map_err(CriError::call("ListContainers"))?;
        let mut found: Vec<Container> = sandboxes.values().map(sandbox).collect();
        let mut known = HashMap::new();
        for listed in containers.into_inner().containers {
            let Some(pod) = sandboxes.get(&listed.pod_sandbox_id) else { continue };
            let pod = Pod { labels: pod.labels.clone(), handler: pod.runtime_handler.clone() };
            let (id, state) = (listed.id.clone(), listed.state);
            let container = match self.known.remove(&id).filter(|(before, _)| *before == state) {
                Some((_, container)) => Some(container),
                // One that went away since is told by its event.
                None => self.container(&id, pod, Some(listed)).await?,
            };
            let Some(container) = container else { continue };
            if is_whole(&container) {
                known.insert(id, (state, container.clone()));
            }
            found.push(container);
        }
        self.known = known;
        Ok(found)
    }

    /// One container of a pod, `None` if it is gone. Where the runtime does not tell of it, what the list says does.
    pub async fn container(
        &mut self,
        id: &str,
        pod: Pod,
        listed: Option<Listed>,
    ) -> Result<Option<Container>, CriError> {
        let request = timed(ContainerStatusRequest { container_id: id.to_owned(), verbose: true });
        let (status, pid) = match self.runtime.container_status(request).await.map(tonic::Response::into_inner) {
            Ok(ContainerStatusResponse { status: Some(status), info }) => (status, pid(&info)),
            Err(status) if is_lost(&status) => return Err(CriError::call("ContainerStatus")(status)),
            Ok(_) => return Ok(None),
            Err(status) if is_gone(&status) => return Ok(None),
            Err(status) => {
                tracing::debug!(%status, container = id, "the runtime does not tell of a container");
                let Some(listed) = listed else { return Ok(None) };
                (as_status(listed), 0)
            }
        };
        let running = status.state == ContainerState::ContainerRunning as i32;
        let image = self.image(&status.image_ref).await?;
        Ok(Some(Container {
            reference: reference(&status, &pod.labels, image.as_ref()),
            image_aliases: image.into_iter().flat_map(|image| [image.repo_tags, image.repo_digests].concat()).collect(),
            labels: own_labels(pod.labels),
            handler: pod.handler,
            pid: if running { pid } else { 0 },
            is_sandbox: false,
            running,
        }))
    }

    /// The image, as far as the runtime knows it by that name.
    async fn image(&mut self, reference: &str) -> Result<Option<Image>, CriError> {
        let spec = ImageSpec { image: image::plain(reference).to_owned(), ..ImageSpec::default() };
        let request = timed(ImageStatusRequest { image: Some(spec), verbose: false });
        match self.images.image_status(request).await {
            Ok(answer) => Ok(answer.into_inner().image),
            Err(status) if is_lost(&status) => Err(CriError::call("ImageStatus")(status)),
            Err(status) => {
                tracing::debug!(%status, reference, "the runtime does not tell of an image");
                Ok(None)
            }
        }
    }
}

/// The runtime itself is away, not what it was asked for.
pub fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

/// cri-dockerd hands on what docker says, without a code.
fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound
        || (status.code() == Code::Unknown && status.message().contains("No such container"))
}

/// Nothing of it is left to ask for.
fn is_whole(container: &Container) -> bool {
    !container.reference.digests.is_empty() && (container.pid != 0 || !container.running)
}

/// What the list says of a container, as its status.
fn as_status(listed: Listed) -> ContainerStatus {
    ContainerStatus {
        id: listed.id,
        metadata: listed.metadata,
        state: listed.state,
        image: listed.image,
        image_ref: listed.image_ref,
        labels: listed.labels,
        ..ContainerStatus::default()
    }
}

/// What a container's pod brings.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Labels of its sandbox, the kubelet's own among them.
    pub labels: HashMap<String, String>,
    /// Its runtime handler.
    pub handler: String,
}

#[derive(serde::Deserialize)]
struct Info {
    #[serde(default)]
    pid: i64,
}

/// The first process. It stands in a JSON text, whose other fields are each runtime's own.
fn pid(info: &HashMap<String, String>) -> u32 {
    let told = info.get("info").and_then(|info| serde_json::from_str::<Info>(info).ok());
    told.and_then(|told| u32::try_from(told.pid).ok()).unwrap_or(0)
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// The pod's labels without those that the kubelet adds for itself.
fn own_labels(labels: HashMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().filter(|(key, _)| !matches!(key.as_str(), NAMESPACE | POD | UID | NAME)).collect()
}

fn label(labels: &HashMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

fn reference(status: &ContainerStatus, pod: &HashMap<String, String>, image: Option<&Image>) -> ContainerRef {
    let asked = image::asked(status);
    let name = status.labels.get(NAME).cloned().or_else(|| status.metadata.as_ref().map(|meta| meta.name.clone()));
    ContainerRef {
        namespace: label(pod, NAMESPACE),
        pod: label(pod, POD),
        pod_uid: label(pod, UID),
        container: name.unwrap_or_default(),
        container_id: status.id.clone(),
        digests: image::digests(asked.as_deref(), &status.image_ref, image),
        image: asked,
    }
}

fn sandbox(sandbox: &PodSandbox) -> Container {
    Container {
        reference: ContainerRef {
            namespace: label(&sandbox.labels, NAMESPACE),
            pod: label(&sandbox.labels, POD),
            pod_uid: label(&sandbox.labels, UID),
            container: String::new(),
            container_id: sandbox.id.clone(),
            image: None,
            digests: Vec::new(),
        },
        labels: own_labels(sandbox.labels.clone()),
        image_aliases: Vec::new(),
        handler: sandbox.runtime_handler.clone(),
        pid: 0,
        is_sandbox: true,
        running: sandbox.state == PodSandboxState::SandboxReady as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_is_not_what_was_asked_for() {
        let status = ContainerStatus {
            image: Some(ImageSpec {
                image: format!("sha256:{}", "c".repeat(64)),
                user_specified_image: "r.example/app:v1".to_owned(),
                ..ImageSpec::default()
            }),
            ..ContainerStatus::default()
        };
        let pod = std::collections::HashMap::from([(UID.to_owned(), "hash-of-a-static-pod".to_owned())]);
        let found = reference(&status, &pod, None);
        assert_eq!(found.image.as_deref(), Some("r.example/app:v1"));
        assert_eq!(found.pod_uid, "hash-of-a-static-pod");
        let status = ContainerStatus {
            image: Some(ImageSpec { image: format!("sha256:{}", "c".repeat(64)), ..ImageSpec::default() }),
            ..ContainerStatus::default()
        };
        assert_eq!(reference(&status, &pod, None).image, None);
    }
}
