//! Verdicts in, one answer out: the strictest counts, and it tells a person all that is needed to mend it.

pub mod decide;
pub mod judgement;
pub mod text;
