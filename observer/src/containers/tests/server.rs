//! A runtime in this process that answers what was recorded, on a socket of its own.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures::{StreamExt as _, stream::BoxStream};
use k8s_cri::v1::{
    image_service_server::{ImageService, ImageServiceServer},
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
    *,
};
use serde_json::Value;
use tokio::{net::UnixListener, sync::mpsc, task::JoinHandle};
use tonic::{Request, Response, Status, transport::Server};

/// What a runtime says to who asks for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    Events,
    /// As CRI-O by default: the stream ends at once, without an error.
    Nothing,
    Unimplemented,
}

#[derive(Default)]
pub struct Known {
    pub sandboxes: Vec<PodSandbox>,
    pub containers: Vec<(ContainerStatus, HashMap<String, String>, String)>,
    /// Statuses that can't be had.
    pub broken: Vec<(String, Status)>,
    pub images: Vec<Image>,
    pub tells: Option<Tells>,
    events: Vec<mpsc::UnboundedSender<Result<ContainerEventResponse, Status>>>,
    /// Statuses that were asked for.
    pub asked: usize,
}

#[derive(Clone, Default)]
pub struct Runtime(pub Arc<Mutex<Known>>);

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    value[field].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn labels(value: &Value) -> HashMap<String, String> {
    let labels = value["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

impl Runtime {
    /// Knows a pod with a container, as `crictl inspect` prints them.
    pub fn recorded(json: &str) -> Self {
        let runtime = Self::default();
        runtime.add(&serde_json::from_str(json).unwrap());
        runtime
    }

    pub fn add(&self, recorded: &Value) {
        let (pod, status, image) = (&recorded["sandbox"], &recorded["status"], &recorded["image"]);
        let sandbox = PodSandbox {
            id: text(pod, "id"),
            state: PodSandboxState::from_str_name(&text(pod, "state")).unwrap().into(),
            labels: labels(pod),
            runtime_handler: text(pod, "runtimeHandler"),
            ..PodSandbox::default()
        };
        let container = ContainerStatus {
            id: text(status, "id"),
            metadata: Some(ContainerMetadata { name: text(&status["metadata"], "name"), attempt: 0 }),
            state: ContainerState::from_str_name(&text(status, "state")).unwrap().into(),
            image: Some(ImageSpec {
                image: text(&status["image"], "image"),
                user_specified_image: text(&status["image"], "userSpecifiedImage"),
                ..ImageSpec::default()
            }),
            image_ref: text(status, "imageRef"),
            labels: labels(status),
            ..ContainerStatus::default()
        };
        let info = HashMap::from([("info".to_owned(), recorded["info"].to_string())]);
        let mut known = self.0.lock().unwrap();
        known.images.push(Image {
            id: text(image, "id"),
            repo_tags: texts(image, "repoTags"),
            repo_digests: texts(image, "repoDigests"),
            ..Image::default()
        });
        known.containers.push((container, info, sandbox.id.clone()));
        if !known.sandboxes.contains(&sandbox) {
            known.sandboxes.push(sandbox);
        }
    }

    /// Tells everybody who listens; whether somebody does.
    pub fn tell(&self, id: &str, kind: ContainerEventType) -> bool {
        let mut known = self.0.lock().unwrap();
        let (_, _, pod) = known.containers.iter().find(|(status, ..)| status.id == id).unwrap().clone();
        let pod = known.sandboxes.iter().find(|sandbox| sandbox.id == pod).unwrap().clone();
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            pod_sandbox_status: Some(PodSandboxStatus {
                id: pod.id,
                labels: pod.labels,
                ..PodSandboxStatus::default()
            }),
            ..ContainerEventResponse::default()
        };
        known.events.retain(|listener| listener.send(Ok(event.clone())).is_ok());
        !known.events.is_empty()
    }

    pub fn listen(&self, socket: &Path) -> Listening {
        let listener = UnixListener::bind(socket).unwrap();
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let server = Server::builder()
            .add_service(RuntimeServiceServer::new(self.clone()))
            .add_service(ImageServiceServer::new(self.clone()))
            .serve_with_incoming(incoming);
        let task = tokio::spawn(async move { server.await.unwrap() });
        Listening { task, socket: socket.to_owned() }
    }
}

/// A runtime that runs.
pub struct Listening {
    task: JoinHandle<()>,
    socket: PathBuf,
}

impl Listening {
    /// Ends it as a kill does, and takes its socket away.
    pub async fn stop(self, runtime: &Runtime) {
        self.task.abort();
        let _ = self.task.await;
        // What a dead process leaves: its streams break off.
        let broken = Status::unavailable("the runtime ended");
        for listener in runtime.0.lock().unwrap().events.drain(..) {
            let _ = listener.send(Err(broken.clone()));
        }
        std::fs::remove_file(self.socket).unwrap();
    }
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

macro_rules! answers {
    ($($name:ident($request:ty) -> $answer:ty { |$known:ident, $asked:ident| $body:expr })*) => {$(
        fn $name<'life0, 'async_trait>(&'life0 self, request: Request<$request>) -> Answer<'async_trait, $answer>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            let $asked = request.into_inner();
            let mut guard = self.0.lock().unwrap();
            let $known = &mut *guard;
            let answer: Result<$answer, Status> = $body;
            drop(guard);
            Box::pin(async move { answer.map(Response::new) })
        }
    )*};
}

macro_rules! nothing {
    ($($name:ident($request:ty) -> $answer:ty)*) => {
        answers! { $($name($request) -> $answer { |_known, _asked| Err(Status::unimplemented(stringify!($name))) })* }
    };
}

impl RuntimeService for Runtime {
    type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

    answers! {
        list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse { |known, asked| {
            let selector = asked.filter.unwrap_or_default().label_selector;
            let fits = |pod: &&PodSandbox| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
            Ok(ListPodSandboxResponse { items: known.sandboxes.iter().filter(fits).cloned().collect() })
        }}
        list_containers(ListContainersRequest) -> ListContainersResponse { |known, _asked| {
            let listed = |(status, _, pod): &(ContainerStatus, HashMap<String, String>, String)| Container {
                id: status.id.clone(),
                pod_sandbox_id: pod.clone(),
                metadata: status.metadata.clone(),
                image: status.image.clone(),
                image_ref: status.image_ref.clone(),
                state: status.state,
                labels: status.labels.clone(),
                ..Container::default()
            };
            Ok(ListContainersResponse { containers: known.containers.iter().map(listed).collect() })
        }}
        container_status(ContainerStatusRequest) -> ContainerStatusResponse { |known, asked| {
            known.asked += 1;
            let broken = known.broken.iter().find(|(id, _)| *id == asked.container_id);
            let found = known.containers.iter().find(|(status, ..)| status.id == asked.container_id);
            match (broken, found) {
                (Some((_, status)), _) => Err(status.clone()),
                (None, Some((status, info, _))) => {
                    Ok(ContainerStatusResponse { status: Some(status.clone()), info: info.clone() })
                }
                (None, None) => Err(Status::not_found("no such container")),
            }
        }}
        get_container_events(GetEventsRequest) -> Self::GetContainerEventsStream { |known, _asked| {
            match known.tells.unwrap_or(Tells::Events) {
                Tells::Unimplemented => Err(Status::unimplemented("unknown method GetContainerEvents")),
                Tells::Nothing => Ok(futures::stream::empty().boxed()),
                Tells::Events => {
                    let (listener, told) = mpsc::unbounded_channel();
                    known.events.push(listener);
                    Ok(futures::stream::unfold(told, |mut told| async { Some((told.recv().await?, told)) }).boxed())
                }
            }
        }}
    }

    nothing! {
        version(VersionRequest) -> VersionResponse
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse
        pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse
        create_container(CreateContainerRequest) -> CreateContainerResponse
        start_container(StartContainerRequest) -> StartContainerResponse
        stop_container(StopContainerRequest) -> StopContainerResponse
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse
        exec_sync(ExecSyncRequest) -> ExecSyncResponse
        exec(ExecRequest) -> ExecResponse
        attach(AttachRequest) -> AttachResponse
        port_forward(PortForwardRequest) -> PortForwardResponse
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse
        status(StatusRequest) -> StatusResponse
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse
        list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse
    }
}

impl ImageService for Runtime {
    answers! {
        image_status(ImageStatusRequest) -> ImageStatusResponse { |known, asked| {
            let name = asked.image.unwrap_or_default().image;
            if name.contains("://") {
                Err(Status::unknown("invalid reference format"))
            } else {
                let is_it = |image: &&Image| {
                    image.id == name || image.repo_digests.contains(&name) || image.repo_tags.contains(&name)
                };
                Ok(ImageStatusResponse { image: known.images.iter().find(is_it).cloned(), ..ImageStatusResponse::default() })
            }
        }}
    }

    nothing! {
        list_images(ListImagesRequest) -> ListImagesResponse
        pull_image(PullImageRequest) -> PullImageResponse
        remove_image(RemoveImageRequest) -> RemoveImageResponse
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse
    }
}
