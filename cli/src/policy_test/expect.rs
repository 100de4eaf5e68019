//! What a case expects, and how a decision differs from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::app::Decided;

/// The answer to a request, over all policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
pub enum Answer {
    /// Let in.
    Allowed,
    /// Let in, and whoever applies it is warned.
    Warned,
    /// Refused.
    Denied,
}

/// What a case expects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// The answer over all policies.
    pub decision: Answer,
    /// Parts of what the person who applies is told, each in one line of a refusal or a warning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// How it ended under a policy, as the audit annotation `decision` says it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, String>,
    /// The references of the pod as they were pinned, in the order of its fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Vec<String>>,
}

/// Where a decision is another than expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Path of the field in the case.
    pub field: String,
    /// What it says.
    pub expected: String,
    /// What was decided.
    pub got: String,
}

impl Expect {
    /// Every difference, in the order of the fields.
    pub fn differences(&self, decided: &Decided) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut differs = |field: String, expected: String, got: String| {
            differences.push(Difference { field, expected, got });
        };
        if self.decision != decided.answer {
            differs("expect.decision".to_owned(), self.decision.to_string(), decided.answer.to_string());
        }
        let lines: Vec<_> = decided.told().collect();
        for (i, part) in self.messages.iter().enumerate() {
            if !lines.iter().any(|line| line.contains(part.as_str())) {
                let got = if lines.is_empty() { "nothing was told".to_owned() } else { lines.join("\n") };
                differs(format!("expect.messages[{i}]"), part.clone(), got);
            }
        }
        for (policy, expected) in &self.policies {
            let got = decided.policies.iter().find(|decision| decision.policy == *policy);
            let got = got.map_or("no such policy", |decision| decision.outcome.as_str());
            if got != expected {
                differs(format!("expect.policies.{policy}"), expected.clone(), got.to_owned());
            }
        }
        if let Some(expected) = self.pinned.as_ref().filter(|expected| **expected != decided.pinned) {
            let list = |pinned: &[String]| if pinned.is_empty() { "nothing".to_owned() } else { pinned.join("\n") };
            differs("expect.pinned".to_owned(), list(expected), list(&decided.pinned));
        }
        differences
    }
}
