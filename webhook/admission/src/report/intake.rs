//! The intake as the queue knows it.

use zastava_core::intake::{IntakeClient, Outcome};
use zastava_crds::wire::report::ReportBatch;

use super::queue::{Delivery, Intake};

impl Intake for IntakeClient {
    async fn deliver(&self, batch: &ReportBatch) -> Delivery {
        match self.report(batch).await {
            Outcome::Taken(receipt) => Delivery::Taken(receipt),
            Outcome::Refused(problem) => {
                let detail = problem.detail.map(|detail| format!("; {detail}")).unwrap_or_default();
                Delivery::Refused(format!("{} {}{detail}", problem.status, problem.title))
            }
            Outcome::Retry(retry) => Delivery::Retry { why: retry.to_string(), after: retry.after },
        }
    }
}
