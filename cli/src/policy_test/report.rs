//! What `policy test` and `policy record` say.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use super::{app::Decided, case::Case, expect::Difference, recorded::Recorded};
use crate::{ending::Ending, output::plain};

/// How a case went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::Display)]
pub enum Went {
    /// As expected.
    Passed,
    /// Otherwise.
    Failed,
    /// An answer is not recorded, so that nothing can be said.
    Unknown,
}

/// One case with what came of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub case: String,
    /// How it went.
    pub result: Went,
    /// What it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where the decision is another than expected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// What was asked and is not recorded.
    #[serde(rename = "notRecorded", skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    decided: Decided,
}

/// All cases.
#[derive(Debug, Serialize)]
pub struct Report {
    /// In the order of their names.
    pub cases: Vec<Outcome>,
    /// How many failed.
    pub failed: usize,
    passed: usize,
    /// Of how many nothing can be said.
    pub unknown: usize,
}

impl Outcome {
    /// Of a case.
    pub fn of(case: &Case, decided: Decided, differences: Vec<Difference>, missing: Vec<String>) -> Self {
        let result = if !missing.is_empty() {
            Went::Unknown
        } else if differences.is_empty() {
            Went::Passed
        } else {
            Went::Failed
        };
        let description = case.description.clone();
        Self { case: case.name.clone(), result, description, differences, missing, decided }
    }
}

impl Report {
    /// Of all cases.
    pub fn of(cases: Vec<Outcome>) -> Self {
        let count = |went: Went| cases.iter().filter(|outcome| outcome.result == went).count();
        Self { failed: count(Went::Failed), passed: count(Went::Passed), unknown: count(Went::Unknown), cases }
    }

    /// For people.
    pub fn table(&self, out: &mut Vec<u8>) -> io::Result<()> {
        for outcome in &self.cases {
            let about =
                if outcome.description.is_empty() { String::new() } else { format!(": {}", outcome.description) };
            writeln!(out, "{:<7} {}{}", outcome.result.to_string(), outcome.case, plain(&about))?;
            for Difference { field, expected, got } in &outcome.differences {
                writeln!(out, "  {field}")?;
                expected.lines().try_for_each(|line| writeln!(out, "    - {}", plain(line)))?;
                got.lines().try_for_each(|line| writeln!(out, "    + {}", plain(line)))?;
            }
            for question in &outcome.missing {
                writeln!(out, "  not recorded: {}", plain(question))?;
            }
            if !outcome.missing.is_empty() {
                writeln!(out, "  next: kubectl zastava policy record")?;
            }
        }
        writeln!(out, "{} passed, {} failed, {} unknown", self.passed, self.failed, self.unknown)
    }

    /// How it ends.
    pub fn ending(&self) -> Ending {
        if self.failed > 0 {
            Ending::Refused
        } else if self.unknown > 0 {
            Ending::Unknown
        } else {
            Ending::Satisfied
        }
    }
}

/// That what was recorded before is of no use, for people.
pub fn recorded_anew(out: &mut Vec<u8>, file: &Path, why: &str) -> io::Result<()> {
    writeln!(out, "{} is written anew, nothing is kept of what it held: {}", file.display(), plain(why))
}

/// What was recorded, for people.
pub fn recorded(out: &mut Vec<u8>, folder: &Path, recorded: &Recorded, troubles: &[String]) -> io::Result<()> {
    writeln!(out, "{} answers of {} registries in {}", recorded.count(), recorded.answers.len(), folder.display())?;
    for trouble in troubles {
        writeln!(out, "not recorded: {}", plain(trouble))?;
    }
    Ok(())
}
