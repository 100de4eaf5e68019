//! Conditions: CEL over what an attestation says.
//!
//! The evaluator has no bound of its own, and reads some expressions otherwise than the language has them. So an
//! expression is [compiled](compile) once a policy into a form that it reads rightly, its [work](work) over a
//! document is bounded before it runs, and it runs on a small [pool](pool).

mod compile;
mod document;
mod functions;
mod lexical;
mod pool;
mod work;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use kube::core::cel::cel::{Value, parser::Expression};

pub(crate) use self::pool::Pool;
use self::{
    document::Document,
    functions::Patterns,
    work::{MAX_WORK, Sizes},
};
use crate::{answer::Unknown, text::bounded};

/// Longest text of an error or of an expression in a message.
const MAX_TEXT: usize = 160;

/// The conditions of one attestation, compiled; cheap to clone.
#[derive(Clone)]
pub struct Conditions(Arc<Inner>);

struct Inner {
    conditions: Vec<Arc<Condition>>,
    patterns: Patterns,
    /// Those of them that name the time; absent: none does.
    live: Option<Conditions>,
}

struct Condition {
    source: String,
    expression: Expression,
}

/// Conditions that name the time, and the signed payload that they held over.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    conditions: Conditions,
    payload: Arc<[u8]>,
}

impl Live {
    /// `None`: what the conditions say does not change with the time.
    pub(crate) fn of(conditions: &Conditions, payload: &[u8]) -> Option<Self> {
        let conditions = conditions.0.live.clone()?;
        Some(Self { conditions, payload: payload.into() })
    }

    /// Bytes it takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.payload.len()
    }

    /// Whether they hold now.
    pub(crate) async fn holds(&self, pool: &Pool, now: Timestamp) -> Result<bool, Unknown> {
        pool.evaluate(&self.conditions, self.payload.clone(), now).await.map(|met| met.is_ok())
    }
}

/// A condition that can't be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("conditions[{index}]: {why}")]
pub struct ConditionError {
    /// Place in the list.
    pub index: usize,
    /// What is wrong with it, and the fix.
    pub why: String,
}

impl ConditionError {
    /// Its field, under that of the attestation.
    pub fn field(&self) -> String {
        format!("conditions[{}]", self.index)
    }

    /// The closed class, for metrics.
    pub fn category(&self) -> &'static str {
        "condition"
    }
}

/// Why a document does not meet its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// One is false, no bool, or ends in an error.
    Condition(String),
    /// The document is not for the evaluator.
    Unsupported(String),
}

impl Conditions {
    /// Compiles each of them.
    pub fn compile(sources: &[String]) -> Result<Self, ConditionError> {
        let mut patterns = Patterns::default();
        let mut conditions = Vec::with_capacity(sources.len());
        let mut live = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let compiled = compile::compile(source, &mut patterns).map_err(|why| ConditionError { index, why })?;
            let condition = Arc::new(Condition { source: source.clone(), expression: compiled.expression });
            live.extend(compiled.live.then(|| condition.clone()));
            conditions.push(condition);
        }
        let only = |conditions: Vec<_>| Self(Arc::new(Inner { conditions, patterns: patterns.clone(), live: None }));
        let live = if live.is_empty() { None } else { Some(only(live)) };
        Ok(Self(Arc::new(Inner { conditions, patterns, live })))
    }

    /// Whether nothing is asked of the predicate.
    pub fn is_empty(&self) -> bool {
        self.0.conditions.is_empty()
    }

    /// Whether what they say may change with the time: a remembered answer is no answer.
    pub fn is_live(&self) -> bool {
        self.0.live.is_some()
    }

    /// Whether the statement in this payload meets all of them. It takes its time on the thread it is called on.
    fn evaluate(&self, payload: &[u8], now: Timestamp) -> Result<(), Unmet> {
        let document = Document::read(payload).map_err(Unmet::Unsupported)?;
        let sizes: Sizes = document.sizes();
        let context = document.context(&self.0.patterns, now);
        for (index, condition) in self.0.conditions.iter().enumerate() {
            let work = work::bound(&condition.expression, &sizes);
            if work > MAX_WORK {
                return Err(Unmet::Unsupported(format!(
                    "unsupported: too large: conditions[{index}] over {} values may take {work} steps, more than {MAX_WORK}",
                    document.values()
                )));
            }
            let unmet = match Value::resolve(&condition.expression, &context) {
                Ok(Value::Bool(true)) => continue,
                Ok(Value::Bool(false)) => "is false".to_owned(),
                Ok(other) => format!("is {}, and neither true nor false", functions::kind(&other)),
                Err(error) => format!("can't be evaluated: {}", bounded(&error, MAX_TEXT)),
            };
            let source = bounded(&condition.source, MAX_TEXT);
            return Err(Unmet::Condition(format!("conditions[{index}] {unmet} ({source})")));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.conditions.iter().map(|condition| &condition.source)).finish()
    }
}
