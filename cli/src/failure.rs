//! Why a command judged nothing.

use std::{io, path::PathBuf};

use zastava_core::tls::TlsError;

use crate::{
    blob::BlobInputError,
    cluster::ClusterError,
    docker_config::DockerConfigError,
    documents::DocumentError,
    output::OutputError,
    policies::PolicyError,
    policy_test::{AnswerError, FolderError, RecordedError, UpdateError},
    registries::RegistriesError,
    resources::ResourceError,
    verify::ImageError,
};

/// Why a command judged nothing; each of them in the words of where it happened.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no thread can be started: {0}")]
    Runtime(io::Error),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Resource(#[from] ResourceError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    DockerConfig(#[from] DockerConfigError),
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Blob(#[from] BlobInputError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Recorded(#[from] RecordedError),
    #[error(transparent)]
    Update(#[from] UpdateError),
    #[error("--junit: {}: {source}", file.display())]
    Junit { file: PathBuf, source: io::Error },
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl Failure {
    /// The closed class, as it stands in the message: for scripts.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Tls(error) => error.category(),
            Self::Runtime(_) => "runtime",
            Self::Document(error) => error.category(),
            Self::Policy(error) => error.category(),
            Self::Resource(error) => error.category(),
            Self::Cluster(_) => "cluster",
            Self::DockerConfig(error) => error.category(),
            Self::Registries(error) => error.category(),
            Self::Image(_) => "image",
            Self::Blob(error) => error.category(),
            Self::Folder(error) => error.category(),
            Self::Answer(error) => error.category(),
            Self::Recorded(error) => error.category(),
            Self::Update(error) => error.category(),
            Self::Junit { .. } => "junit",
            Self::Output(_) => "output",
        }
    }
}
