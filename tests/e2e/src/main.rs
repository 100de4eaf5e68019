//! `zastava-e2e`: the test cluster by hand. `make help` lists the usual ways in.

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use zastava_e2e::cluster::{self, Run};
use zastava_e2e::tools::Tools;

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
        #[arg(long, default_value_t = 2)]
        nodes: u8,
    },
    /// Take the cluster down; its logs stay.
    Down,
    /// Print the path of the cluster's kubeconfig.
    Kubeconfig,
    /// Print the folder of the cluster's programs.
    Bin,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { cluster: name, command } = Arguments::parse();
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
        Command::Bin => println!("{}", Tools::build()?.bin().display()),
    }
    Ok(())
}
