//! Connections to hosts that others choose: registries as pods name them, their token realms, their redirects.
//!
//! A name is resolved first and judged by its addresses, so that no name leads into the cluster. reqwest does not resolve
//! addresses that are written as such, and it follows redirects by itself: both are done here.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use http::{
    Method,
    header::{AUTHORIZATION, COOKIE, LOCATION, PROXY_AUTHORIZATION},
};
use ipnet::IpNet;
use reqwest::{
    ClientBuilder, Request, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

/// The 96 bits of 64:ff9b::/96 (<https://www.rfc-editor.org/rfc/rfc6052>).
const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;
/// Redirects that are followed at most.
const MAX_REDIRECTS: usize = 5;

/// Which addresses may be connected to; cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard {
    inner: Arc<Rules>,
}

#[derive(Clone, Debug, Default)]
struct Rules {
    denied: Vec<IpNet>,
    /// Hosts in lower case, with the port if one was written.
    configured: HashSet<(String, Option<u16>)>,
}

/// Settings that no guard can be made of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GuardError {
    /// Not a network.
    #[error("{0:?} is not a network such as 10.96.0.0/12 or fd00::/8")]
    Network(String),
    /// Not a host.
    #[error("{0:?} is not a host such as registry.example:5000")]
    Host(String),
}

impl GuardError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Network(_) => "denied_network",
            Self::Host(_) => "configured_host",
        }
    }
}

/// An address that is not connected to.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{host} is at {address}, {what}: only a configured host may be there")]
pub struct Refused {
    host: String,
    address: IpAddr,
    what: &'static str,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The guard refused its address, or that of a redirect.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Too many redirects, or one that must not be followed.
    #[error("{host} {what}")]
    Redirect {
        /// Who redirected.
        host: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No connection, or it broke.
    #[error(transparent)]
    Http(reqwest::Error),
}

impl EgressError {
    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Refused(_) => "guarded",
            Self::Redirect { .. } => "redirect",
            Self::Http(_) => "http",
        }
    }
}

impl From<reqwest::Error> for EgressError {
    /// A refusal of the resolver comes back at the end of a chain of causes.
    fn from(error: reqwest::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = cause {
            if let Some(refused) = inner.downcast_ref::<Refused>() {
                return Self::Refused(refused.clone());
            }
            cause = inner.source();
        }
        Self::Http(error)
    }
}

impl Guard {
    /// Refuses `denied` networks beside those that are refused always; `configured` hosts (`host` or `host:port`) are
    /// connected to wherever they are.
    pub fn new<'a>(
        denied: impl IntoIterator<Item = &'a str>,
        configured: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, GuardError> {
        let network = |text: &str| {
            let single = || text.parse::<IpAddr>().map(IpNet::from);
            text.parse().or_else(|_| single()).map_err(|_| GuardError::Network(text.to_owned()))
        };
        let denied = denied.into_iter().map(network).collect::<Result<_, _>>()?;
        let configured = configured.into_iter().map(configured_host).collect::<Result<_, _>>()?;
        Ok(Self { inner: Arc::new(Rules { denied, configured }) })
    }

    /// The same without its configured hosts: for one who must not be led to them, such as a registry that is not
    /// configured itself.
    #[must_use]
    pub fn strict(&self) -> Self {
        let denied = self.inner.denied.clone();
        Self { inner: Arc::new(Rules { denied, configured: HashSet::new() }) }
    }

    /// A client behind this guard. `builder` is called twice: configured hosts have connections of their own.
    pub fn client(&self, builder: impl Fn() -> ClientBuilder) -> Result<Client, reqwest::Error> {
        // A proxy would resolve names out of our sight.
        let build = || builder().redirect(Policy::none()).referer(false).no_proxy();
        Ok(Client {
            configured: build().build()?,
            guarded: build().dns_resolver(Arc::new(GuardedResolver(self.clone()))).build()?,
            guard: self.clone(),
        })
    }

    /// Why an address is not connected to, if so.
    pub fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        let address = plain(address);
        let what = match address {
            IpAddr::V4(v4) if v4.is_loopback() => "a loopback address",
            IpAddr::V6(v6) if v6.is_loopback() => "a loopback address",
            IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
            IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
            // All of 0.0.0.0/8 means this host.
            IpAddr::V4(v4) if v4.octets()[0] == 0 => "an unspecified address",
            IpAddr::V6(v6) if v6.is_unspecified() => "an unspecified address",
            _ if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) => "a multicast address",
            _ if self.inner.denied.iter().any(|network| network.contains(&address)) => "in a network that is denied",
            _ => return None,
        };
        Some(what)
    }

    fn is_configured(&self, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default().to_owned();
        let any_port = matches!(url.port_or_known_default(), Some(80 | 443));
        self.inner.configured.contains(&(host.clone(), url.port_or_known_default()))
            || any_port && self.inner.configured.contains(&(host, None))
    }

    /// Of the addresses of a name those that may be connected to; none of them is a refusal.
    fn allowed(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let mut refused = None;
        let mut allowed = Vec::with_capacity(found.len());
        for address in found {
            match self.refusal(address.ip()) {
                Some(what) => refused = Some(Refused { host: host.to_owned(), address: address.ip(), what }),
                None => allowed.push(address),
            }
        }
        match refused {
            Some(refused) if allowed.is_empty() => Err(refused),
            _ => Ok(allowed),
        }
    }

    /// An address that is written as such is not resolved by anybody.
    fn literal(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() else { return Ok(()) };
        self.allowed(host, vec![SocketAddr::new(address, 0)]).map(|_| ())
    }
}

fn configured_host(written: &str) -> Result<(String, Option<u16>), GuardError> {
    let invalid = || GuardError::Host(written.to_owned());
    // A scheme without a default port, so that a written 443 is told from none; a URL's host is in its canonical form.
    let (host, port) = match written.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| invalid())?)),
        _ => (written, None),
    };
    let url = Url::parse(&format!("http://{host}/")).map_err(|_| invalid())?;
    match url.host_str() {
        Some(host) if url.path() == "/" && url.port().is_none() && url.username().is_empty() => {
            Ok((host.to_owned(), port))
        }
        _ => Err(invalid()),
    }
}

/// IPv6 addresses that stand for an IPv4 address, as that address: mapped, compatible, and NAT64's.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let IpAddr::V6(v6) = v6.to_canonical() else { return v6.to_canonical() };
    let prefix = v6.to_bits() >> 32;
    let is_compatible = prefix == 0 && !matches!(v6, Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED);
    if prefix == NAT64 || is_compatible {
        let [.., one, two, three, four] = v6.octets();
        return IpAddr::V4(Ipv4Addr::new(one, two, three, four));
    }
    IpAddr::V6(v6)
}

struct GuardedResolver(Guard);

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = guard.allowed(name.as_str(), found)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A client behind a guard; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    guard: Guard,
    guarded: reqwest::Client,
    configured: reqwest::Client,
}

impl Client {
    /// Sends a request, and follows the redirects of a GET. What proves who we are stays with the host it is for.
    pub async fn send(&self, request: Request) -> Result<Response, EgressError> {
        self.follow(request, |_| true).await
    }

    /// The same for a question that one host alone can answer: a redirect to another one is the answer itself.
    pub async fn send_to_one(&self, request: Request) -> Result<Response, EgressError> {
        let origin = request.url().origin();
        self.follow(request, |target| target.origin() == origin).await
    }

    async fn follow(&self, mut request: Request, to: impl Fn(&Url) -> bool) -> Result<Response, EgressError> {
        for _ in 0..=MAX_REDIRECTS {
            let follow = (request.method() == Method::GET).then(|| request.try_clone()).flatten();
            let response = Box::pin(self.send_once(request)).await?;
            let Some(mut next) = follow else { return Ok(response) };
            let Some(target) = redirect(&response) else { return Ok(response) };
            let host = || next.url().host_str().unwrap_or_default().to_owned();
            let target = target.map_err(|what| EgressError::Redirect { host: host(), what })?;
            if !to(&target) {
                return Ok(response);
            }
            if target.origin() != next.url().origin() {
                for header in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
                    next.headers_mut().remove(header);
                }
            }
            *next.url_mut() = target;
            request = next;
        }
        let host = request.url().host_str().unwrap_or_default().to_owned();
        Err(EgressError::Redirect { host, what: "is at the end of too many redirects" })
    }

    async fn send_once(&self, request: Request) -> Result<Response, EgressError> {
        if self.guard.is_configured(request.url()) {
            return Ok(self.configured.execute(request).await?);
        }
        self.guard.literal(request.url())?;
        Ok(self.guarded.execute(request).await?)
    }
}

/// Where an answer leads, if it does.
fn redirect(response: &Response) -> Option<Result<Url, &'static str>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    let target = location.to_str().ok().and_then(|location| response.url().join(location).ok());
    Some(match target {
        None => Err("redirects to no address"),
        Some(target) if response.url().scheme() == "https" && target.scheme() != "https" => {
            Err("redirects from TLS to plain HTTP")
        }
        Some(target) => Ok(target),
    })
}

#[cfg(test)]
mod tests;
