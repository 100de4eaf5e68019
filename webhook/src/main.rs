//! Admission: AdmissionReview in, decision out.

#![forbid(unsafe_code)]

mod arguments;
mod cluster;
mod credentials;
mod decision;
mod engine;
#[cfg(test)]
mod fixtures;
mod metrics;
mod mutate;
mod policies;
mod program;
mod report;
mod review;
#[cfg(test)]
mod scenarios;
mod server;
mod validate;

use clap::Parser as _;
use zastava_core::{settings, telemetry, tls};

use self::arguments::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init("webhook")?;
    tls::install_provider()?;
    let settings = settings::load(&arguments.settings)?;
    program::run(arguments, settings).await.inspect_err(|error| tracing::error!("{error:#}"))
}
