//! Policies: read by a watch, judged, and told the truth about in their status.

mod coverage;
mod events;
mod scope;
mod status;
mod store;
mod tally;
mod writer;

pub use self::{
    scope::{Scope, ScopeError},
    store::Policies,
    writer::Writer,
};
