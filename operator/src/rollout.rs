//! Rollout: what policies and settings ask for, made true in the cluster.
//!
//! validate → build → apply → status. Building is pure; only what was applied can become a status.

mod apply;
mod build;
mod converge;
mod globs;
mod installation;
mod live;
mod replicas;
mod report;
mod trust;
mod validate;

pub use self::{
    converge::{Converge, start},
    installation::{Installation, ObserverInstallation, WebhookInstallation},
    live::{Live, Object},
    replicas::{Replica, Replicas},
    report::{Deployed, Fault, Report},
    validate::{Refusal, in_force},
};
