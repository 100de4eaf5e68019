//! How a command ends: its exit code.

use std::process::ExitCode;

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is as it was asked for: 0.
    Satisfied,
    /// Something can't be said, which is never a pass: 3.
    Unknown,
    /// Something is refused, or a test failed: 1.
    Refused,
    /// Nothing was judged, because what was given can't be used: 2.
    Invalid,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Satisfied => 0,
            Ending::Refused => 1,
            Ending::Invalid => 2,
            Ending::Unknown => 3,
        })
    }
}
