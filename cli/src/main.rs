//! `kubectl zastava`: the engine and the decisions of the webhook, for people and pipelines.

#![forbid(unsafe_code)]

mod arguments;
mod blob;
mod bounded;
mod cluster;
mod completion;
mod docker_config;
mod documents;
mod ending;
mod failure;
mod output;
mod policies;
mod policy_test;
mod registries;
mod resources;
mod schema;
#[cfg(test)]
mod tests;
mod verify;

use std::{io::Write, process::ExitCode};

use clap::Parser as _;
use zastava_core::tls;

use self::{
    arguments::{Arguments, Command, PolicyCommand},
    ending::Ending,
    failure::Failure,
};

/// Verification nests deeply, and its futures are large where the compiler does not optimise: the default of 2 MiB
/// ends in an overflow.
const STACK: usize = 8 << 20;

fn main() -> ExitCode {
    // clap itself ends with 2 on wrong usage.
    let arguments = Arguments::parse();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || conduct(arguments));
    let ending = match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(ending))) => ending,
        Ok(Ok(Err(error))) => {
            eprintln!("error[{}]: {error}", error.category());
            Ending::Invalid
        }
        Ok(Err(_)) | Err(_) => Ending::Unknown,
    };
    ending.into()
}

fn conduct(arguments: Arguments) -> Result<Ending, Failure> {
    tls::install_provider()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK)
        .build()
        .map_err(Failure::Runtime)?;
    let mut out = Vec::new();
    let ending = runtime.block_on(run(arguments, &mut out));
    let mut stdout = std::io::stdout().lock();
    // A reader that has seen enough, such as `head`, is no failure of ours.
    let _ = stdout.write_all(&out).and_then(|()| stdout.flush());
    ending
}

/// Runs a command; what it prints goes to `out`.
async fn run(arguments: Arguments, out: &mut Vec<u8>) -> Result<Ending, Failure> {
    match arguments.command {
        Command::Verify(verify) => verify::run(&verify, out).await,
        Command::VerifyBlob(blob) => blob::run(&blob, out),
        Command::Policy { command: PolicyCommand::Test(test) } => policy_test::test(&test, out).await,
        Command::Policy { command: PolicyCommand::Record(record) } => policy_test::record(&record, out).await,
        Command::Completion { shell } => {
            out.extend_from_slice(completion::script(shell).as_bytes());
            Ok(Ending::Satisfied)
        }
    }
}
