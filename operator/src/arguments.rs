//! What the program is told on its command line or in its environment; all else is in its settings.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Parser;
use zastava_core::{listen, settings::SETTINGS_PATH};

/// Port of health, status and metrics.
const HTTP_PORT: u16 = 8080;

/// Zastava's operator: deploys observer and webhook as policies ask, takes their reports, and keeps the findings.
#[derive(Clone, Debug, Parser)]
#[command(name = "zastava-operator", version)]
pub struct Arguments {
    /// Settings, YAML.
    #[arg(long, env = "ZASTAVA_SETTINGS", default_value = SETTINGS_PATH)]
    pub settings: PathBuf,
    /// Name of this pod: who holds the lease.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,
    /// Namespace of this pod: the release's.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,
    /// Address of this pod: where reporters find the leader.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: IpAddr,
    /// Address of the intake, over TLS.
    #[arg(long, env = "ZASTAVA_LISTEN", default_value_t = listen::everywhere(crate::intake::PORT))]
    pub listen: SocketAddr,
    /// Address of health, status and metrics, over plain HTTP.
    #[arg(long, env = "ZASTAVA_HTTP", default_value_t = listen::everywhere(HTTP_PORT))]
    pub http: SocketAddr,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_have_defaults_for_all_but_who_we_are() {
        Arguments::command().debug_assert();
        let who = ["zastava-operator", "--pod-name", "p", "--pod-namespace", "n", "--pod-ip", "fd00::1"];
        let given = Arguments::try_parse_from(who).unwrap();
        assert_eq!((given.listen.port(), given.http.port()), (9444, 8080));
        assert!(Arguments::try_parse_from(&who[..5]).is_err());
    }
}
