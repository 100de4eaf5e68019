//! The cluster's long-lived processes: started in a session of their own, recorded by id and start time before they
//! run, so that a harness that is killed half way leaves nothing it cannot find again.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::output;
use crate::error::{At as _, Error, Result};

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// The shell records itself and becomes the program: a process runs only once its record is on the disk.
const RECORDER: &str = r#"read -r -a stat </proc/$$/stat
printf '%s %s %s\n' "$$" "${stat[21]}" "$2" >"$1.new" && mv "$1.new" "$1" || exit 1
shift 2
exec "$@""#;

/// One recorded process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    id: i32,
    start: u64,
    record: PathBuf,
}

/// What to run, and where its output and record go.
#[derive(Debug)]
pub struct Spec<'a> {
    /// The name, unique in the cluster.
    pub name: &'a str,
    /// Program and arguments.
    pub line: Vec<String>,
    /// Added to `PATH`.
    pub path: &'a Path,
    /// The folder of records.
    pub records: &'a Path,
    /// The folder of logs.
    pub logs: &'a Path,
}

impl Process {
    /// The process recorded under `name`, if it still runs (and is not another one with its id).
    pub fn running(records: &Path, name: &str) -> Option<Self> {
        Self::read(&records.join(name)).filter(Self::alive)
    }

    /// Every process that has a record and still runs.
    pub fn all_running(records: &Path) -> Vec<Self> {
        let entries = fs::read_dir(records).into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::read(&entry.path())).filter(Self::alive).collect()
    }

    /// Starts a process unless it runs.
    pub fn ensure(spec: &Spec<'_>) -> Result<Self> {
        if let Some(process) = Self::running(spec.records, spec.name) {
            return Ok(process);
        }
        let record = spec.records.join(spec.name);
        fs::create_dir_all(spec.records).at(spec.records)?;
        fs::create_dir_all(spec.logs).at(spec.logs)?;
        let _ = fs::remove_file(&record);
        let log_path = spec.logs.join(format!("{}.log", spec.name));
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path).at(&log_path)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("setsid");
        command
            .args(["--fork", "bash", "-c", RECORDER, spec.name])
            .arg(&record)
            .arg(boot_id())
            .args(&spec.line)
            .env("PATH", format!("{}:{path}", spec.path.display()))
            // A proxy of the person's shell has no business between the cluster's own addresses.
            .env_remove("HTTP_PROXY")
            .env_remove("HTTPS_PROXY")
            .env_remove("http_proxy")
            .env_remove("https_proxy")
            .env_remove("KUBECONFIG")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().at(&log_path)?)
            .stderr(log);
        let status = command.status().map_err(|error| Error::Command {
            command: spec.name.to_owned(),
            output: format!("did not start: {error}"),
        })?;
        if !status.success() {
            return Err(Error::Command { command: spec.name.to_owned(), output: format!("setsid: {status}") });
        }
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(process) = Self::read(&record) {
                return Ok(process);
            }
            if Instant::now() > until {
                return Err(Error::Command {
                    command: spec.name.to_owned(),
                    output: format!("it did not start; see {}", log_path.display()),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn read(record: &Path) -> Option<Self> {
        let text = fs::read_to_string(record).ok()?;
        let mut words = text.split_whitespace();
        let id = words.next()?.parse().ok()?;
        let start = words.next()?.parse().ok()?;
        (words.next()? == boot_id()).then(|| Self { id, start, record: record.to_path_buf() })
    }

    /// Whether this very process still runs.
    pub fn alive(&self) -> bool {
        stat(self.id).is_some_and(|stat| stat.start == self.start && stat.state != 'Z' && stat.state != 'X')
    }

    /// The process in a node that the recorded one (`nsenter`, `unshare`) waits for.
    pub fn child(&self) -> Option<i32> {
        if !self.alive() {
            return None;
        }
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find(|id| stat(*id).is_some_and(|stat| stat.parent == self.id && stat.state != 'Z'))
    }

    /// Sends `signal` to the program itself: the child where the recorded process only waits for it.
    pub fn signal(&self, signal: Signal, waits: bool) {
        let target = if waits { self.child() } else { self.alive().then_some(self.id) };
        if let Some(pid) = target.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal); // gone in between is as good
        }
    }

    /// Kills the process and what it waits for, and forgets it once it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL, true);
        self.signal(Signal::KILL, false);
        let until = Instant::now() + GONE;
        while self.alive() {
            if Instant::now() > until {
                return Err(Error::Deadline {
                    what: format!("process {} ({}) is gone after SIGKILL", self.id, self.record.display()),
                    after: GONE,
                    last: stat(self.id).map_or_else(|| "gone".into(), |stat| format!("state {}", stat.state)),
                });
            }
            self.signal(Signal::KILL, false);
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_file(&self.record);
        Ok(())
    }
}

struct Stat {
    state: char,
    parent: i32,
    start: u64,
}

/// The fields of `/proc/ID/stat` after the name, which may itself hold spaces and brackets.
fn stat(id: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Runs a short command inside the namespaces of the process `holder` and returns its output.
pub fn enter(holder: i32, line: &[&str]) -> Result<String> {
    output(
        Command::new("nsenter").args(["--target", &holder.to_string(), "--net", "--pid", "--mount", "--"]).args(line),
    )
}
