//! Following the runtime: everything once, then what happens, and everything again whenever the stream was broken.

use std::{task::Poll, time::Duration};

use futures::{StreamExt as _, stream};
use k8s_cri::v1::{ContainerEventResponse, ContainerEventType};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    Container, Cri, CriError, Sockets,
    cri::{Events, Pod, is_lost},
};

/// Everything is listed again after so long, whatever the stream says: runtimes lose events.
const RELIST: Duration = Duration::from_mins(1);
/// Or after so long, where the runtime tells no events.
const UNTOLD: Duration = Duration::from_secs(1);
/// Listing on behalf of an unknown container is not done more often.
const PACE: Duration = Duration::from_millis(500);
/// Between two attempts at events where there are none.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_mins(1);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// Who is told.
pub trait RuntimeState: Send + Sync {
    /// The runtime answers: this is its process.
    fn connected(&self, pid: Option<u32>);
    /// It does not.
    fn gone(&self, error: &CriError);
    /// A container was created, started, or is there.
    fn seen(&self, container: Container);
    /// A container was removed.
    fn removed(&self, id: &str);
    /// These are all there are.
    fn listed(&self, containers: Vec<Container>);
    /// Resolves when some record names a container that nobody knows.
    fn wanted(&self) -> impl Future<Output = ()> + Send;
}

/// Follows the runtime until `token` ends it.
pub async fn follow<S: RuntimeState>(sockets: Sockets, state: &S, token: CancellationToken) {
    let mut backoff = FIRST_BACKOFF;
    loop {
        let connected = Instant::now();
        tokio::select! {
            () = token.cancelled() => return,
            error = session(&sockets, state) => {
                tracing::warn!(%error, category = error.category(), "the container runtime is lost, connecting again");
                state.gone(&error);
            }
        }
        // A session that lasted was a good one; the socket is of this node, so trying often costs nothing.
        if connected.elapsed() > LAST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        tokio::select! {
            () = token.cancelled() => return,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}

/// One connection, until it fails.
async fn session<S: RuntimeState>(sockets: &Sockets, state: &S) -> CriError {
    match try_session(sockets, state).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn try_session<S: RuntimeState>(sockets: &Sockets, state: &S) -> Result<std::convert::Infallible, CriError> {
    let mut cri = Cri::connect(sockets).await?;
    state.connected(cri.pid);
    // Asked for before the list, so that nothing falls between.
    let mut told = Told::ask(&cri).await;
    let mut pause = FIRST_PAUSE;
    let mut pace = RELIST;
    state.listed(cri.list().await?);
    let mut listed = Instant::now();
    loop {
        let event = tokio::select! {
            event = told.next() => Some(event),
            () = sleep(pace.saturating_sub(listed.elapsed())) => None,
            () = paced(listed, state) => None,
        };
        match event {
            Some(Some(Ok(event))) => {
                (pause, pace) = (FIRST_PAUSE, RELIST);
                tell(&mut cri, event, state).await?;
                continue;
            }
            Some(Some(Err(status))) if is_lost(&status) => return Err(lost(status)),
            // CRI-O's and cri-dockerd's default: an end at once, or Unimplemented. It is listed often then.
            Some(_) => {
                told = Told::Nothing { again: Instant::now() + pause };
                pause = (pause * 2).min(LAST_PAUSE);
                pace = UNTOLD;
            }
            None => {}
        }
        if !cri.is_same().await {
            return Err(lost(tonic::Status::unavailable("another runtime listens")));
        }
        if told.is_due() {
            told = Told::ask(&cri).await;
        }
        state.listed(cri.list().await?);
        listed = Instant::now();
    }
}

fn lost(status: tonic::Status) -> CriError {
    CriError::Call { call: "GetContainerEvents", status: Box::new(status) }
}

/// What the runtime tells by itself.
enum Told {
    Events(Events),
    /// Nothing, and it is asked for events again then.
    Nothing {
        again: Instant,
    },
}

impl Told {
    async fn ask(cri: &Cri) -> Self {
        let mut events = cri.events();
        Self::Events(match futures::poll!(events.next()) {
            Poll::Ready(None) => stream::empty().boxed(),
            Poll::Ready(Some(early)) => stream::iter([early]).chain(events).boxed(),
            Poll::Pending => events,
        })
    }

    async fn next(&mut self) -> Option<Result<ContainerEventResponse, tonic::Status>> {
        match self {
            Self::Events(events) => events.next().await,
            Self::Nothing { .. } => std::future::pending().await,
        }
    }

    fn is_due(&self) -> bool {
        matches!(self, Self::Nothing { again } if *again <= Instant::now())
    }
}

async fn paced<S: RuntimeState>(listed: Instant, state: &S) {
    // Waiting out the pace must not lose the wish, so it comes first.
    let _ = timeout_at(listed + PACE, std::future::pending::<()>()).await;
    state.wanted().await;
}

async fn tell<S: RuntimeState>(cri: &mut Cri, event: ContainerEventResponse, state: &S) -> Result<(), CriError> {
    let kind = event.container_event_type();
    if kind == ContainerEventType::ContainerDeletedEvent {
        state.removed(&event.container_id);
        return Ok(());
    }
    let Some(sandbox) = event.pod_sandbox_status else { return Ok(()) };
    // Sandboxes have events of their own; they run nothing of the pod's and are found by the list.
    if sandbox.id == event.container_id {
        return Ok(());
    }
    let pod = Pod { labels: sandbox.labels, handler: sandbox.runtime_handler };
    if let Some(container) = cri.container(&event.container_id, pod, None).await? {
        state.seen(container);
    }
    Ok(())
}
