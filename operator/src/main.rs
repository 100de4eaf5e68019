//! The operator's program.

#![forbid(unsafe_code)]

use clap::Parser as _;
use zastava_core::{settings, telemetry, tls};
use zastava_operator::{arguments::Arguments, program};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("operator")?;
    tls::install_provider()?;
    let settings = settings::load(&arguments.settings)?;
    program::run(arguments, settings).await.inspect_err(|error| tracing::error!("{error:#}"))
}
