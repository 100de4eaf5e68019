//! Where the intake is, what vouches for it, and the connection to it.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Uri, header};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{Asked, IntakeError, Retry, RetryReason};
use crate::settings::webhook::IntakeSettings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection whose other end is gone is noticed within the two together.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a token, and of authorities.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// What a client holds between two requests.
#[derive(Debug)]
pub struct Link {
    host: Host,
    port: u16,
    server_name: String,
    ca_file: PathBuf,
    token_file: PathBuf,
    ca: Vec<u8>,
    leader: Option<SocketAddr>,
    http: Option<reqwest::Client>,
}

/// One request's way to the intake.
#[derive(Debug)]
pub struct Line {
    /// The leader it goes to; none: to the service.
    pub leader: Option<SocketAddr>,
    http: reqwest::Client,
    authority: String,
    token: HeaderValue,
}

impl Line {
    pub(super) fn request(&self, asked: &Asked) -> reqwest::RequestBuilder {
        self.http
            .post(format!("https://{}{}", self.authority, asked.path))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, self.token.clone())
            .timeout(asked.timeout)
            .body(asked.body.clone())
    }
}

impl Link {
    pub fn new(settings: &IntakeSettings) -> Result<Self, IntakeError> {
        let wrong = |message| IntakeError::Url { url: settings.url.clone(), message };
        let url: Uri = settings.url.parse().map_err(|_| wrong("not a URL"))?;
        if url.scheme_str() != Some("https") {
            return Err(wrong("only https carries a token"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err(wrong("a path is not part of it"));
        }
        let host = url.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("no host"))?;
        if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("a user is not part of it"));
        }
        if !matches!(ServerName::try_from(settings.server_name.as_str()), Ok(ServerName::DnsName(_))) {
            return Err(IntakeError::Name(settings.server_name.clone()));
        }
        Ok(Self {
            host: Host::from(host),
            port: url.port_u16().unwrap_or(443),
            server_name: settings.server_name.clone(),
            ca_file: PathBuf::from(&settings.ca_file),
            token_file: PathBuf::from(&settings.token_file),
            ca: Vec::new(),
            leader: None,
            http: None,
        })
    }

    /// The way that the next request takes. Both files are read anew: they are small, and lie in memory.
    pub async fn line(&mut self) -> Result<Line, Retry> {
        let ca = read(&self.ca_file).await.map_err(|why| Retry::new(RetryReason::Trust, why))?;
        let token = read(&self.token_file).await.map_err(|why| Retry::new(RetryReason::Credential, why))?;
        let http = match &self.http {
            Some(http) if self.ca == ca => http.clone(),
            _ => {
                let http = self.connect(&ca).map_err(|why| Retry::new(RetryReason::Trust, why))?;
                self.ca = ca;
                self.http = Some(http.clone());
                http
            }
        };
        let port = self.leader.map_or(self.port, |leader| leader.port());
        let authority = format!("{}:{port}", self.server_name);
        Ok(Line { leader: self.leader, http, authority, token: bearer(&self.token_file, &token)? })
    }

    /// The replica at the end of `line` named the leader.
    pub fn follow(&mut self, line: &Line, leader: SocketAddr) {
        self.turn(line, Some(leader));
    }

    /// `line` led nowhere: the next request asks the service, over a new connection.
    pub fn forget(&mut self, line: &Line) {
        self.turn(line, None);
    }

    fn turn(&mut self, line: &Line, leader: Option<SocketAddr>) {
        // Another request may have found a better way meanwhile.
        if self.leader == line.leader {
            self.leader = leader;
            self.http = None;
        }
    }

    fn connect(&self, ca: &[u8]) -> Result<reqwest::Client, String> {
        let path = self.ca_file.display();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            let certificate = certificate.map_err(|error| format!("{path}: {error}"))?;
            roots.add(certificate).map_err(|error| format!("{path}: {error}"))?;
        }
        if roots.is_empty() {
            return Err(format!("{path} holds no certificate"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let host = self.leader.map_or_else(|| self.host.clone(), |leader| Host::Address(leader.ip()));
        reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .dns_resolver(Dial(host))
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .pool_idle_timeout(None)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| super::answer::chain(&error))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(format!("{}: {} bytes: at most {MAX_FILE_BYTES}", path.display(), bytes.len()));
    }
    Ok(bytes)
}

fn bearer(path: &Path, token: &[u8]) -> Result<HeaderValue, Retry> {
    let wrong = || Retry::new(RetryReason::Credential, format!("{} holds no token", path.display()));
    let token = std::str::from_utf8(token).map_err(|_| wrong())?.trim();
    if token.is_empty() {
        return Err(wrong());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| wrong())?;
    // Never printed, nor kept by header compression.
    value.set_sensitive(true);
    Ok(value)
}

/// A machine to dial.
#[derive(Clone, Debug)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl From<&str> for Host {
    fn from(host: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or_else(|_| Self::Name(host.to_owned()), Self::Address)
    }
}

/// Answers with one machine's addresses, whatever name the certificate is verified under.
#[derive(Debug)]
struct Dial(Host);

impl Resolve for Dial {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let addresses: Addrs = match host {
                Host::Address(address) => Box::new(std::iter::once(SocketAddr::new(address, 0))),
                Host::Name(name) => {
                    let found: Vec<SocketAddr> = tokio::net::lookup_host((name, 0)).await?.collect();
                    Box::new(found.into_iter())
                }
            };
            Ok(addresses)
        })
    }
}
