//! A folder of policies, resources and cases.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use zastava_admission::policies::{keys::Content, snapshot::Snapshot};

use super::case::{Case, CaseError};
use crate::{
    documents::{self, Document, DocumentError},
    policies::{self, PolicyError, Written},
    resources::{ResourceError, Resources},
};

/// Where policies' references resolve.
pub const NAMESPACE: &str = "zastava-system";

/// What is in a folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Its policies, by name.
    pub policies: Vec<Written>,
    /// Its other objects.
    pub resources: Arc<Resources>,
    /// Its cases, by file.
    pub cases: Vec<Case>,
}

/// A folder that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file can't be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A policy can't be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// An object can't be used.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// A case can't be used.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// Nothing to test.
    #[error("{0}: no case: put one into cases/NAME.yaml")]
    NoCase(String),
}

impl FolderError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Document(error) => error.category(),
            Self::Policy(error) => error.category(),
            Self::Resource(error) => error.category(),
            Self::Case(error) => error.category(),
            Self::NoCase(_) => "no_case",
        }
    }
}

impl Folder {
    /// Reads policies and resources of the folder itself and of its `resources`, and its `cases`.
    pub fn read(path: &Path) -> Result<Self, FolderError> {
        let mut documents = documents::read_folder(path)?;
        documents.extend(documents::read_folder(&path.join("resources"))?);
        let (policies, others): (Vec<Document>, Vec<Document>) =
            documents.into_iter().partition(|document| document.kind() == policies::KIND);
        let policies = policies::of(policies)?;
        if policies.is_empty() {
            return Err(PolicyError::None(path.display().to_string()).into());
        }
        let mut resources = Resources::new(NAMESPACE);
        resources.take(others)?;
        let files = documents::files(&path.join("cases"))?;
        let cases = files.iter().map(|file| Case::read(file)).collect::<Result<Vec<_>, _>>()?;
        if cases.is_empty() {
            return Err(FolderError::NoCase(path.display().to_string()));
        }
        Ok(Self { path: path.to_owned(), policies, resources: Arc::new(resources), cases })
    }

    /// Where answers of registries are recorded.
    pub fn recorded(&self) -> PathBuf {
        self.path.join("recorded")
    }

    /// The policies as the webhook holds them.
    pub async fn snapshot(&self) -> Result<Snapshot, FolderError> {
        let policies = || self.policies.iter().map(|written| &written.policy);
        let missing = "the folder has none: put its manifest into resources/";
        let keys = self.resources.keyring(policies(), async |_| Content::Unreadable(missing.to_owned())).await;
        let mut snapshot = Snapshot { platforms: self.resources.platforms(), ..Snapshot::default() };
        for written in &self.policies {
            snapshot.policies.insert(written.uid(), written.compile(&keys)?);
        }
        Ok(snapshot)
    }
}
