//! Nodes: what each observer says of itself, and the rules that all of them hold.

mod cluster;
mod registry;
mod rules;

pub use self::{
    cluster::{ClusterNode, ClusterNodes},
    registry::{NodeRegistry, NodeView, TooManyNodes},
    rules::{RuleBook, rule_set},
};
