//! What others' sources of events cost, alone: beside them stands what the observer costs.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::command::run;
use crate::error::{At as _, Error, Result};
use crate::wait::{Seen, until};

/// How long one may take to listen.
const SOON: Duration = Duration::from_secs(10);

/// The programs.
pub struct Rivals {
    folder: tempfile::TempDir,
}

/// One that listens.
pub struct Listening(Child);

impl Rivals {
    /// Compiles what is ours to compile; `perf` is the system's.
    pub fn make() -> Result<Self> {
        let folder = tempfile::tempdir().at(std::env::temp_dir())?;
        let rivals = Self { folder };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("workload/connector.c");
        run(
            "gcc",
            ["-Os", "-Wall", "-Werror", "-o"].map(Into::into).into_iter().chain([rivals.connector_path(), source]),
        )?;
        run("perf", ["--version"]).map_err(|_| Error::Invalid("perf is missing: apt-get install linux-perf".into()))?;
        Ok(rivals)
    }

    fn connector_path(&self) -> PathBuf {
        self.folder.path().join("connector")
    }

    /// The proc connector, with a listener that does nothing.
    pub fn connector(&self) -> Result<Listening> {
        let path = self.connector_path();
        let mut child = Command::new(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().at(&path)?;
        let mut said = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut said).at(&path)?;
        }
        let listening = Listening(child);
        if said.trim() == "listening" {
            Ok(listening)
        } else {
            Err(Error::Invalid("the proc connector refuses: the benchmark needs the machine's own namespaces".into()))
        }
    }

    /// `perf record` of every mapping on the machine, with build-ids.
    pub async fn perf(&self) -> Result<Listening> {
        let data = self.folder.path().join("perf.data");
        let _ = std::fs::remove_file(&data);
        let mut command = Command::new("perf");
        command.args(["record", "--quiet", "--all-cpus", "--buildid-mmap", "--event", "dummy", "--output"]).arg(&data);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().at("perf")?;
        let mut listening = Listening(child);
        until("perf records", SOON, async || {
            if let Some(status) = listening.0.try_wait().at("perf")? {
                return Err(Error::Invalid(format!("perf record ended at once: {status}")));
            }
            let size = std::fs::metadata(&data).map_or(0, |meta| meta.len());
            Ok(if size > 0 { Seen::There(()) } else { Seen::NotYet("it has written nothing".into()) })
        })
        .await?;
        Ok(listening)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // perf ends what it writes at an interrupt; the other ends with its input. Gone already is as good.
        drop(self.0.stdin.take());
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.0.wait();
    }
}
