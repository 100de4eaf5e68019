//! How a policy stands with what runs, in numbers.

use std::{collections::HashMap, sync::Arc};

/// How each policy stands, by its UID; those alone that ask for posture.
pub type Outlooks = Arc<HashMap<String, Outlook>>;

/// How a policy stands with the images that run in the pods it speaks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Generation of the policy that the rest is about.
    pub generation: i64,
    /// Images, each counted once however many pods run it.
    pub images: usize,
    /// Of these: proven.
    pub satisfied: usize,
    /// Covered by an exception, in all of their pods.
    pub excepted: usize,
    /// Shown not to satisfy.
    pub violated: usize,
    /// Nothing can be said.
    pub unknown: usize,
    /// Not answered yet.
    pub pending: usize,
    /// One of those that nothing can be said of, why, and what to do.
    pub doubt: Option<String>,
}

impl Outlook {
    /// In one line.
    pub fn describe(&self) -> String {
        let Self { images, satisfied, excepted, violated, unknown, pending, .. } = self;
        let mut parts = vec![format!("{satisfied} satisfy")];
        for (count, what) in
            [(excepted, "excepted"), (violated, "in violation"), (unknown, "unknown"), (pending, "not answered yet")]
        {
            if *count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let doubt = self.doubt.as_ref().map(|doubt| format!("; {doubt}")).unwrap_or_default();
        format!("of {images} running images {}{doubt}", parts.join(", "))
    }
}
