//! One question about some images: by the contract, split where the backend finds it too large.

use futures::future::BoxFuture;
use zastava_crds::{
    digest::ImageDigest,
    wire::verdict::{ImageVerdict, MAX_ANSWER_BYTES, VERDICT_PATH, VERDICT_SCHEMA, VerdictAnswer, VerdictRequest},
};

use super::{
    Cause, Unavailable,
    client::{Answered, Backend},
};

/// Who answers questions about images.
pub trait Ask: Send + Sync + 'static {
    /// The verdicts on `images`, at most [`zastava_crds::wire::verdict::MAX_IMAGES`], each named once. What comes back
    /// was said for the tenant that asks; it may lack some of them, and hold others.
    fn ask<'a>(&'a self, images: &'a [ImageDigest]) -> BoxFuture<'a, Result<Vec<ImageVerdict>, Unavailable>>;

    /// Where they are asked, for people.
    fn place(&self) -> String;
}

impl Ask for Backend {
    fn ask<'a>(&'a self, images: &'a [ImageDigest]) -> BoxFuture<'a, Result<Vec<ImageVerdict>, Unavailable>> {
        Box::pin(async move {
            let tenancy = self.tenancy();
            let request = VerdictRequest {
                schema: VERDICT_SCHEMA.to_owned(),
                tenant_id: tenancy.tenant.clone(),
                project_id: tenancy.project.clone(),
                cluster: tenancy.cluster.clone(),
                images: images.to_vec(),
            };
            let body =
                serde_json::to_vec(&request).map_err(|error| Unavailable::new(Cause::Answer, error.to_string()))?;
            match self.post(VERDICT_PATH, body.into(), MAX_ANSWER_BYTES).await? {
                Answered::Ok(body) => self.read(&body),
                Answered::TooLarge(why) if images.len() < 2 => Err(Unavailable::new(Cause::Refused, why)),
                Answered::TooLarge(_) => {
                    let (one, other) = images.split_at(images.len() / 2);
                    let mut verdicts = self.ask(one).await?;
                    verdicts.extend(self.ask(other).await?);
                    Ok(verdicts)
                }
            }
        })
    }

    fn place(&self) -> String {
        self.url().to_owned()
    }
}

impl Backend {
    fn read(&self, body: &[u8]) -> Result<Vec<ImageVerdict>, Unavailable> {
        let answer: VerdictAnswer = serde_json::from_slice(body)
            .map_err(|error| Unavailable::new(Cause::Answer, format!("an answer that can't be read: {error}")))?;
        if answer.schema != VERDICT_SCHEMA {
            let detail = format!("an answer of schema {:?} instead of {VERDICT_SCHEMA}", answer.schema);
            return Err(Unavailable::new(Cause::Answer, detail));
        }
        let tenancy = self.tenancy();
        if answer.tenant_id != tenancy.tenant || answer.project_id != tenancy.project {
            let detail = format!(
                "an answer for tenant {:?} and project {:?} instead of {:?} and {:?}",
                answer.tenant_id, answer.project_id, tenancy.tenant, tenancy.project
            );
            return Err(Unavailable::new(Cause::Tenant, detail));
        }
        Ok(answer.verdicts)
    }
}
