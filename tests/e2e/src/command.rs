//! Short-lived programs: run to the end, output captured, the command line named when it fails.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use crate::error::{Error, Result};

/// How much of a failed program's output an error repeats, in bytes.
const OUTPUT_SHOWN: usize = 4096;

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Whether it exited 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// What it printed; any other exit than 0 is an error.
    pub fn stdout(self) -> Result<String> {
        if self.success {
            return Ok(self.stdout);
        }
        Err(Error::Command {
            command: "the program".into(),
            output: format!("{}{}", self.stdout, self.stderr).trim().to_owned(),
        })
    }
}

/// Runs `command` to its end; standard input is empty.
pub fn finish(command: &mut Command) -> Result<Finished> {
    let Output { status, stdout, stderr } = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::Command { command: written(command), output: format!("did not start: {error}") })?;
    Ok(Finished {
        success: status.success(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Runs `command` to its end and returns its standard output; any other exit than 0 is an error.
pub fn output(command: &mut Command) -> Result<String> {
    let finished = finish(command)?;
    if finished.success {
        return Ok(finished.stdout);
    }
    let all = format!("{}{}", finished.stdout, finished.stderr);
    let from = all.len().saturating_sub(OUTPUT_SHOWN);
    let shown = all.char_indices().find(|(at, _)| *at >= from).map_or("", |(at, _)| &all[at..]);
    Err(Error::Command { command: written(command), output: shown.trim().to_owned() })
}

/// Runs `program` with `arguments` and returns its standard output.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> Result<String> {
    output(Command::new(program).args(arguments))
}

fn written(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy().chars().take(200).collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}
