//! The self-test: a child of the observer executes, and the record of it must come up through the ring.

use std::{
    ffi::OsString,
    process::{Command, Stdio},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::timeout};

/// The argument by which the observer's program knows that it is only to end at once.
pub const SELF_TEST_ARGUMENT: &str = "--self-test";
/// A record that takes longer is a missing one.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Whether this process is a self-test: `main` ends at once then, before anything else.
pub fn is_self_test() -> bool {
    std::env::args_os().nth(1).is_some_and(|argument| argument == SELF_TEST_ARGUMENT)
}

/// The observer's own program, which is there in an image that holds nothing else.
pub fn own_command() -> Vec<OsString> {
    vec!["/proc/self/exe".into(), SELF_TEST_ARGUMENT.into()]
}

/// Executes once; tells whether the kernel told of it.
pub async fn run(command: &[OsString], mut seen: watch::Receiver<u32>) -> bool {
    let Some((program, arguments)) = command.split_first() else { return false };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::error!(%error, "the self-test can't be executed");
            return false;
        }
    };
    let pid = child.id();
    let came = timeout(PATIENCE, seen.wait_for(|last| *last == pid)).await.is_ok_and(|result| result.is_ok());
    // It ends by itself, and must not stay a zombie.
    if let Err(error) = spawn_blocking(move || child.wait()).await {
        tracing::warn!(%error, "a self-test was not waited for");
    }
    came
}
