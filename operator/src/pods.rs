//! Pods: who runs where, remembered past deletion for as long as a journal may still speak of them.

mod index;
mod lookup;
mod owner;
mod pod;
mod watch;

pub use self::{
    index::{Found, PodIndex},
    lookup::PodLookup,
    owner::Owners,
    pod::{Pod, PodContainer},
    watch::start,
};
