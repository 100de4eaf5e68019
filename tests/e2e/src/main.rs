//! `zastava-e2e`: the test cluster by hand. `make help` lists the usual ways in.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use zastava_e2e::bench;
use zastava_e2e::cluster::{self, Run};
use zastava_e2e::demo;
use zastava_e2e::product::Product;
use zastava_e2e::release;
use zastava_e2e::stage::Stage;
use zastava_e2e::tools::Tools;

/// The common case.
const NODES: u8 = 2;

#[derive(Debug, Parser)]
#[command(version, about = "A real Kubernetes on this machine, for Zastava's demo and tests")]
struct Arguments {
    /// The cluster's name; several live side by side.
    #[arg(long, global = true, env = "ZASTAVA_CLUSTER", default_value = "zastava")]
    cluster: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the cluster up, or repair it.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = NODES)]
        nodes: u8,
    },
    /// Take the cluster down; its logs stay.
    Down,
    /// Print the path of the cluster's kubeconfig.
    Kubeconfig,
    /// Print the folder of the cluster's programs.
    Bin,
    /// Build Zastava's images, push them to the cluster's registry and print where they are.
    Images,
    /// Show Zastava at work, step by step; the cluster stays up.
    Demo {
        /// How many nodes a new cluster gets.
        #[arg(long, default_value_t = NODES)]
        nodes: u8,
    },
    /// Install Zastava of this tree, or upgrade to it.
    Install,
    /// Measure what admission costs, and write the page with the figures.
    BenchAdmission {
        /// Repetitions of every cell.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Minutes of load under which memory is looked at.
        #[arg(long, default_value_t = 2)]
        soak: u64,
        /// The page.
        #[arg(long, default_value = "docs/benchmarks/admission.md")]
        page: PathBuf,
    },
    /// Measure what it costs to be observed, and write the page with the figures.
    BenchObserver {
        /// Rounds with and without the observer.
        #[arg(long, default_value_t = 30)]
        rounds: usize,
        /// The page.
        #[arg(long, default_value = "docs/benchmarks/observer.md")]
        page: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match act(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn act(Arguments { cluster: name, command }: Arguments) -> anyhow::Result<()> {
    match command {
        Command::Up { nodes } => {
            let run = Run::up(&name, nodes, Tools::build()?).await.context("cluster up")?;
            println!("cluster {name} is up; logs in {}", run.logs().display());
        }
        Command::Down => {
            let was = cluster::down(&name).context("cluster down")?;
            println!("cluster {name} {}", if was { "is down" } else { "was not up" });
        }
        Command::Kubeconfig => println!("{}", cluster::kubeconfig(&name)?.display()),
        Command::Images => {
            let product = Product::push(Stage::open(&name, NODES).await?.registry()).context("images")?;
            for image in [product.operator, product.webhook, product.observer] {
                println!("{}", image.pinned());
            }
        }
        Command::Demo { nodes } => demo::play(&name, nodes).await.context("demo")?,
        Command::Install => {
            let stage = Stage::open(&name, NODES).await?;
            let product = Product::push(stage.registry()).context("images")?;
            release::install(&stage, &product).await.context("install")?;
            println!("Zastava is installed in namespace {}", release::NAMESPACE);
        }
        Command::BenchAdmission { rounds, soak, page } => {
            let extent = bench::Extent { rounds, soak: Duration::from_secs(soak * 60) };
            bench::admission(&name, extent, &page).await.context("bench-admission")?;
        }
        Command::BenchObserver { rounds, page } => {
            bench::observer(&name, rounds, &page).await.context("bench-observer")?;
        }
        Command::Bin => println!("{}", Tools::build()?.bin().display()),
    }
    Ok(())
}
