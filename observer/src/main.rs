//! zastava-observer: without a command it is the agent of a node.

#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use zastava_core::{telemetry, tls};
use zastava_observer::{
    agent::{self, settings::AgentSettings},
    confine::confine,
    facts::{self, ReplayError},
    journal::{
        inspect::{ShowError, inspect, show},
        measure::measure,
    },
    pipeline::{ObserverConfig, self_test::is_self_test},
    probe::Pins,
};

/// Watches what really runs on a node.
#[derive(Debug, Parser)]
#[command(name = "zastava-observer", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reads a journal, also beside a running observer.
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Prints the runtime facts of recorded events, a line of canonical JSON each, sorted: equal events give equal bytes.
    /// Ends with 1 if something recorded could not be told.
    Replay {
        /// A journal's folder, or a file with what `journal show` printed; those of several nodes in any order.
        #[arg(required = true)]
        recordings: Vec<PathBuf>,
    },
    /// Takes the probe out of the kernel: no exec is seen, and none killed, from then on.
    Unpin {
        /// Folder of the pins.
        #[arg(long, default_value_os_t = ObserverConfig::new("").bpffs)]
        bpffs: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum JournalCommand {
    /// Prints every record, a line of JSON each; ends with 1 if some are damaged.
    Show {
        /// The journal's folder.
        folder: PathBuf,
    },
    /// Says whether every record that was written can be read, by checksums and numbers; ends with 1 if not.
    Verify {
        /// The journal's folder.
        folder: PathBuf,
        /// Prints cursors and segments as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says, as JSON, how many events a second a journal on this disk takes and gives.
    Measure {
        /// A folder that is not there yet; it is taken away again.
        folder: PathBuf,
        /// How many events.
        #[arg(long, default_value_t = 50_000)]
        records: u64,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    if is_self_test() {
        return Ok(ExitCode::SUCCESS);
    }
    match Arguments::parse().command {
        None => run().map(|()| ExitCode::SUCCESS),
        Some(Command::Journal { command }) => journal(&command),
        Some(Command::Replay { recordings }) => replay(&recordings),
        Some(Command::Unpin { bpffs }) => {
            Pins::new(&bpffs).remove().with_context(|| format!("can't unpin {}", bpffs.display()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The agent. Two threads do: nearly all of the time is the kernel's, and each thread more is memory.
fn run() -> anyhow::Result<()> {
    telemetry::init("observer")?;
    // While there is one thread: a filter holds for those that come after.
    confine().inspect_err(|error| tracing::error!(%error, category = error.category(), "the observer ends"))?;
    tls::install_provider()?;
    let settings = AgentSettings::read(|name| std::env::var(name).ok())
        .inspect_err(|error| tracing::error!(%error, category = error.category(), "settings can't be used"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime
        .block_on(agent::run(settings))
        .inspect_err(|error| tracing::error!(%error, category = error.category(), "the observer ends"))?;
    tracing::info!("ended");
    Ok(())
}

fn journal(command: &JournalCommand) -> anyhow::Result<ExitCode> {
    let sound = match command {
        JournalCommand::Show { folder } => match show(folder, std::io::stdout().lock()) {
            // Whoever reads has seen enough.
            Err(ShowError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => true,
            shown => {
                let damages = shown?;
                if damages > 0 {
                    eprintln!("{damages} stretches of damage were passed over");
                }
                damages == 0
            }
        },
        JournalCommand::Verify { folder, json } => {
            let inspection = inspect(folder)?;
            if *json {
                println!("{}", serde_json::to_string_pretty(&inspection)?);
            } else {
                println!(
                    "{} records, {} missing, {} stretches of damage, {} writes cut short, {} segments set aside",
                    inspection.records, inspection.missing, inspection.damages, inspection.torn, inspection.set_aside
                );
            }
            inspection.sound()
        }
        JournalCommand::Measure { folder, records } => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            println!("{}", serde_json::to_string(&runtime.block_on(measure(folder, *records))?)?);
            true
        }
    };
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn replay(recordings: &[PathBuf]) -> anyhow::Result<ExitCode> {
    match facts::replay(recordings, std::io::stdout().lock()) {
        // Whoever reads has seen enough.
        Err(ReplayError::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        told => {
            let untold = told?;
            if untold.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            eprintln!(
                "not told: {} unreadable records, {} uses in containers without a known image digest, {} uses of files beyond the bound of {}",
                untold.unreadable,
                untold.without_image,
                untold.truncated,
                facts::MAX_FACTS
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
