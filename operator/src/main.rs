//! The operator's program.

#![forbid(unsafe_code)]

use clap::Parser as _;
use zastava_core::{settings, telemetry, tls};
use zastava_operator::{arguments::Arguments, program};

/// Verification nests deeply, and its futures are large where the compiler does not optimise: the default of 2 MiB
/// ends in an overflow.
const WORKER_STACK: usize = 8 << 20;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(WORKER_STACK).build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    telemetry::init("operator")?;
    tls::install_provider()?;
    let settings = settings::load(&arguments.settings)?;
    program::run(arguments, settings).await.inspect_err(|error| tracing::error!("{error:#}"))
}
