//! The referrers API, with its pages bounded and never followed to another host.

use http::{HeaderMap, header::LINK};
use reqwest::Url;
use zastava_crds::digest::Sha256Digest;

use super::{
    Repository,
    content::{self, Referrer},
};
use crate::answer::{Answer, Unknown, UnknownCause};

const MAX_PAGES: usize = 10;
/// Referrers of one image at most.
const MAX_REFERRERS: usize = 500;

/// What the referrers API answered.
#[derive(Debug)]
pub(crate) enum Referrers {
    /// A list, perhaps an empty one.
    Listed(Vec<Referrer>),
    /// The registry has no such API.
    Unsupported,
    /// A list that may not be whole, and why.
    Unknown(Vec<Referrer>, Unknown),
}

impl Repository {
    /// What refers to this manifest.
    pub(crate) async fn referrers(&self, digest: &Sha256Digest) -> Referrers {
        let mut found = Vec::new();
        let mut next = match self.first_page(&format!("referrers/{digest}")) {
            Answer::Found(url) => Some(url),
            Answer::None => None,
            Answer::Unknown(unknown) => return Referrers::Unknown(found, unknown),
        };
        let mut pages = 0;
        while let Some(url) = next {
            if pages == MAX_PAGES {
                let message = format!("{} has more than {MAX_PAGES} pages of referrers", self.host);
                return Referrers::Unknown(found, Unknown::new(UnknownCause::TooLarge, message));
            }
            pages += 1;
            let (headers, body) = match self.page(url.clone()).await {
                Answer::Found(page) => page,
                Answer::None if pages == 1 => return Referrers::Unsupported,
                Answer::None => {
                    let message = format!("{} broke off its list of referrers", self.host);
                    return Referrers::Unknown(found, Unknown::new(UnknownCause::RegistryError, message));
                }
                Answer::Unknown(unknown) => return Referrers::Unknown(found, unknown),
            };
            match content::listed(&body) {
                Ok(page) => found.extend(page),
                // Something that is no index on the first page is a server that does not know the API and serves a page for people.
                Err(_) if pages == 1 => return Referrers::Unsupported,
                Err(_) => {
                    let message = format!("{} sent a list of referrers that can't be read", self.host);
                    return Referrers::Unknown(found, Unknown::new(UnknownCause::RegistryError, message));
                }
            }
            if found.len() > MAX_REFERRERS {
                let message = format!("{} lists more than {MAX_REFERRERS} referrers", self.host);
                found.truncate(MAX_REFERRERS);
                return Referrers::Unknown(found, Unknown::new(UnknownCause::TooLarge, message));
            }
            next = match following(&headers, &url) {
                Ok(next) => next,
                Err(why) => {
                    let message = format!("{}: next page of referrers {why}", self.host);
                    return Referrers::Unknown(found, Unknown::new(UnknownCause::RegistryError, message));
                }
            };
        }
        Referrers::Listed(found)
    }
}

/// The address of `Link: <…>; rel="next"`, which must be on the same host: the credentials are for that one.
fn following(headers: &HeaderMap, page: &Url) -> Result<Option<Url>, &'static str> {
    for value in headers.get_all(LINK) {
        let text = value.to_str().map_err(|_| "can't be read")?;
        for link in text.split(',') {
            let Some((target, parameters)) = link.trim().strip_prefix('<').and_then(|rest| rest.split_once('>')) else {
                continue;
            };
            let is_next = parameters.split(';').any(|p| matches!(p.trim(), "rel=next" | "rel=\"next\""));
            if !is_next {
                continue;
            }
            let next = page.join(target).map_err(|_| "is no address")?;
            if next.origin() != page.origin() {
                return Err("is on another host");
            }
            return Ok(Some(next));
        }
    }
    Ok(None)
}
