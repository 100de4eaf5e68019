//! Addresses to listen on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

/// All addresses of this host: both families, where the kernel has both.
pub fn everywhere(port: u16) -> SocketAddr {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
        Err(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
    }
}
