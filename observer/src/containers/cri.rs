//! The runtime's CRI, asked for what the observer needs.

use std::{
    collections::BTreeMap,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::{
    ContainerEventResponse, ContainerState, ContainerStatus, ContainerStatusRequest, GetEventsRequest, Image,
    ImageSpec, ImageStatusRequest, ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxState,
    image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient,
};
use tokio::net::UnixStream;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint, Uri},
};
use zastava_crds::{
    digest::{DigestKind, ImageDigest},
    wire::event::ContainerRef,
};

use super::Container;

/// The runtime can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    /// No socket is there.
    #[error("no container runtime's socket in any of {0:?}")]
    NoSocket(Vec<PathBuf>),
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

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD: &str = "io.kubernetes.pod.name";
const UID: &str = "io.kubernetes.pod.uid";
const NAME: &str = "io.kubernetes.container.name";

/// A connection to the runtime.
#[derive(Clone, Debug)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    /// The runtime's process, in the observer's pid namespace.
    pub pid: Option<u32>,
}

/// The first socket in these folders; a folder may be given as the socket itself.
fn find(folders: &[PathBuf]) -> Option<PathBuf> {
    let is_socket = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    folders.iter().find_map(|folder| {
        let inside = ["containerd.sock", "crio.sock", "cri.sock"].map(|name| folder.join(name));
        std::iter::once(folder.clone()).chain(inside).find(|path| is_socket(path))
    })
}

impl Cri {
    /// Connects to the first socket in these folders.
    pub async fn connect(folders: &[PathBuf]) -> Result<Self, CriError> {
        let socket = find(folders).ok_or_else(|| CriError::NoSocket(folders.to_vec()))?;
        let failed = |problem: String| CriError::Connect { socket: socket.clone(), problem };
        // The peer of a first connection is the runtime: its mount namespace is where containers are made from.
        let peer = UnixStream::connect(&socket).await.map_err(|error| failed(error.to_string()))?;
        let pid = peer.peer_cred().ok().and_then(|cred| cred.pid()).and_then(|pid| u32::try_from(pid).ok());
        drop(peer);
        let path = socket.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(PATIENCE);
        let channel = endpoint.connect_with_connector(connector).await.map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER),
            images: ImageServiceClient::new(channel),
            pid: pid.filter(|pid| *pid != 0),
        })
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
        for listed in containers.into_inner().containers {
            let Some(pod) = sandboxes.get(&listed.pod_sandbox_id) else { continue };
            let pod = Pod { labels: pod.labels.clone(), handler: pod.runtime_handler.clone() };
            // One that went away since is told by its event.
            if let Some(container) = self.container(&listed.id, pod).await? {
                found.push(container);
            }
        }
        Ok(found)
    }

    /// One container of a pod, `None` if it is gone.
    pub async fn container(&mut self, id: &str, pod: Pod) -> Result<Option<Container>, CriError> {
        let request = timed(ContainerStatusRequest { container_id: id.to_owned(), verbose: true });
        let answer = match self.runtime.container_status(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(CriError::call("ContainerStatus")(status)),
        };
        let Some(status) = answer.status else { return Ok(None) };
        let running = status.state == ContainerState::ContainerRunning as i32;
        let pid = answer.info.get("info").and_then(|info| serde_json::from_str::<Info>(info).ok()).map_or(0, |i| i.pid);
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

    async fn image(&mut self, reference: &str) -> Result<Option<Image>, CriError> {
        let spec = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
        let request = timed(ImageStatusRequest { image: Some(spec), verbose: false });
        let answer = self.images.image_status(request).await.map_err(CriError::call("ImageStatus"))?;
        Ok(answer.into_inner().image)
    }
}

/// What a container's pod brings.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Labels of its sandbox, the kubelet's own among them.
    pub labels: std::collections::HashMap<String, String>,
    /// Its runtime handler.
    pub handler: String,
}

#[derive(serde::Deserialize)]
struct Info {
    #[serde(default)]
    pid: u32,
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// The pod's labels without those that the kubelet adds for itself.
fn own_labels(labels: std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    labels.into_iter().filter(|(key, _)| !matches!(key.as_str(), NAMESPACE | POD | UID | NAME)).collect()
}

fn label(labels: &std::collections::HashMap<String, String>, key: &str) -> String {
    labels.get(key).cloned().unwrap_or_default()
}

fn reference(
    status: &ContainerStatus,
    pod: &std::collections::HashMap<String, String>,
    image: Option<&Image>,
) -> ContainerRef {
    let spec = status.image.as_ref();
    let asked = spec.and_then(|spec| {
        [&spec.user_specified_image, &spec.image]
            .into_iter()
            .find(|name| !name.is_empty() && !name.starts_with("sha256:"))
            .cloned()
    });
    let name = status.labels.get(NAME).cloned().or_else(|| status.metadata.as_ref().map(|meta| meta.name.clone()));
    ContainerRef {
        namespace: label(pod, NAMESPACE),
        pod: label(pod, POD),
        pod_uid: label(pod, UID),
        container: name.unwrap_or_default(),
        container_id: status.id.clone(),
        digests: digests(asked.as_deref(), &status.image_ref, image),
        image: asked,
    }
}

/// The digest that was asked for, then what repositories call the image, then its configuration.
fn digests(asked: Option<&str>, image_ref: &str, image: Option<&Image>) -> Vec<ImageDigest> {
    let mut digests: Vec<ImageDigest> = Vec::new();
    let mut add = |kind: DigestKind, text: &str| {
        if let Ok(digest) = text.parse()
            && !digests.iter().any(|known| known.digest == digest)
        {
            digests.push(ImageDigest { kind, digest });
        }
    };
    let repositories = image.map(|image| image.repo_digests.as_slice()).unwrap_or_default();
    let names = asked.into_iter().chain(repositories.iter().map(String::as_str)).chain([image_ref]);
    for (_, digest) in names.filter_map(|name| name.split_once('@')) {
        add(DigestKind::Unresolved, digest);
    }
    // An event holds four at most: the configuration is never the one to go.
    let config = image.map_or(image_ref, |image| image.id.as_str());
    digests.truncate(3);
    let mut add = |text: &str| {
        if let Ok(digest) = text.parse()
            && !digests.iter().any(|known| known.digest == digest)
        {
            digests.push(ImageDigest { kind: DigestKind::Config, digest });
        }
    };
    add(config);
    digests
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

    fn digest(byte: char) -> String {
        format!("sha256:{}", byte.to_string().repeat(64))
    }

    #[test]
    fn the_digest_asked_for_comes_first_and_the_configuration_last() {
        let image = Image {
            id: digest('c'),
            repo_digests: vec![format!("r.example/app@{}", digest('b')), format!("r.example/app@{}", digest('a'))],
            ..Image::default()
        };
        let asked = format!("r.example/app:v1@{}", digest('a'));
        let found = digests(Some(&asked), &digest('c'), Some(&image));
        let found: Vec<_> = found.iter().map(|d| (d.kind, d.digest.as_str().to_owned())).collect();
        assert_eq!(
            found,
            [
                (DigestKind::Unresolved, digest('a')),
                (DigestKind::Unresolved, digest('b')),
                (DigestKind::Config, digest('c'))
            ]
        );
        assert_eq!(digests(None, &digest('c'), None).len(), 1);
    }

    #[test]
    fn an_image_id_is_not_what_was_asked_for() {
        let status = ContainerStatus {
            image: Some(ImageSpec {
                image: digest('c'),
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
            image: Some(ImageSpec { image: digest('c'), ..ImageSpec::default() }),
            ..ContainerStatus::default()
        };
        assert_eq!(reference(&status, &pod, None).image, None);
    }
}
