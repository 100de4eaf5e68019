//! What the program is told on its command line or in its environment; all else is in its settings.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
};

use clap::Parser;
use zastava_core::settings::SETTINGS_PATH;

/// Port of the two endpoints that the API server calls.
const PORT: u16 = 9443;
/// Port of health, status and metrics.
const HTTP_PORT: u16 = 8080;

/// Zastava's admission webhook: pins the digests of pods, and refuses images that policies do not let in.
#[derive(Clone, Debug, Parser)]
#[command(name = "zastava-webhook", version)]
pub struct Arguments {
    /// Settings, YAML.
    #[arg(long, env = "ZASTAVA_SETTINGS", default_value = SETTINGS_PATH)]
    pub settings: PathBuf,
    /// UID of this pod, by which the intake knows who reports.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: String,
    /// Address of the endpoints that the API server calls, over TLS.
    #[arg(long, env = "ZASTAVA_LISTEN", default_value_t = any(PORT))]
    pub listen: SocketAddr,
    /// Address of health, status and metrics, over plain HTTP.
    #[arg(long, env = "ZASTAVA_HTTP", default_value_t = any(HTTP_PORT))]
    pub http: SocketAddr,
}

/// All addresses of this pod: both families, where the kernel has both.
fn any(port: u16) -> SocketAddr {
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    if TcpListener::bind(both).is_ok() {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
    } else {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_have_defaults_for_all_but_who_we_are() {
        Arguments::command().debug_assert();
        let given = Arguments::try_parse_from(["zastava-webhook", "--pod-uid", "u"]).unwrap();
        assert_eq!((given.listen.port(), given.http.port()), (9443, 8080));
        assert!(Arguments::try_parse_from(["zastava-webhook", "--listen", "somewhere"]).is_err());
    }
}
