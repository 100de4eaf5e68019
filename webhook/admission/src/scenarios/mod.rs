//! What a user sees of admission, through the real routes, without sockets, registry or API server.

mod exceptions;
mod images;
mod modes;
mod pinning;
mod scope;
mod texts;
mod unmatched;
mod updates;
mod verdict;
