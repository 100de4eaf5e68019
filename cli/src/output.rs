//! How results are printed: the same bytes for the same results.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: sorted keys
    Json,
    /// The same as YAML
    Yaml,
}

/// Results that can't be printed.
#[derive(Debug, thiserror::Error)]
#[error("the results can't be printed: {0}")]
pub struct OutputError(String);

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Prints results; `table` says how for people.
pub fn print<T: Serialize>(
    out: &mut Vec<u8>,
    format: Format,
    results: &T,
    table: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
) -> Result<(), OutputError> {
    if format == Format::Table {
        return Ok(table(out)?);
    }
    let wrong = |error: serde_json::Error| OutputError(error.to_string());
    // By way of a value, whose keys are sorted.
    let value: Value = serde_json::to_value(results).map_err(wrong)?;
    if format == Format::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&value).map_err(wrong)?)?;
    } else {
        let text = serde_saphyr::to_string(&value).map_err(|error| OutputError(error.to_string()))?;
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// Text that others wrote, on one line and without what would drive a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
