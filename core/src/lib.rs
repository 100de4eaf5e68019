//! What at least two of Zastava's programs share: settings, telemetry, health, TLS, and every connection that goes out.

#![forbid(unsafe_code)]

pub mod backend;
pub mod egress;
pub mod health;
pub mod intake;
pub mod listen;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod watching;
