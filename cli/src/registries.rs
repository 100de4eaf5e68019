//! Registries as the command line configures them, and the credentials for them.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use zastava_verify::{
    answer::UnknownCause,
    registry::{Registry, RegistryError, RegistrySettings, layout::LayoutError, transport::Transport},
};

use crate::{arguments::RegistryArguments, bounded};

/// Bytes of a file of certificates at most.
const MAX_CERTIFICATES: u64 = 1024 * 1024;

/// Registries that can't be asked as was meant.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    /// A file of certificates can't be read.
    #[error("--ca {host}={}: {source}", file.display())]
    Certificates {
        /// The registry.
        host: String,
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The settings can't be used.
    #[error(transparent)]
    Settings(#[from] RegistryError),
    /// The layout can't be used.
    #[error("--layout: {0}")]
    Layout(#[from] LayoutError),
}

impl RegistriesError {
    /// The closed class.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Certificates { .. } => "registry_ca",
            Self::Settings(error) => error.category(),
            Self::Layout(error) => error.category(),
        }
    }
}

/// The registries, asked through a transport if there is one.
pub fn registry(
    arguments: &RegistryArguments,
    transport: Option<Arc<dyn Transport>>,
) -> Result<Registry, RegistriesError> {
    let mut settings: BTreeMap<String, RegistrySettings> = BTreeMap::new();
    let mut of = |host: &str, set: &mut dyn FnMut(&mut RegistrySettings)| {
        set(settings.entry(host.to_owned()).or_insert_with(|| RegistrySettings {
            host: host.to_owned(),
            plain_http: false,
            ca_pem: None,
            mirror: None,
            credentials: None,
        }));
    };
    for host in &arguments.plain_http {
        of(host, &mut |settings| settings.plain_http = true);
    }
    for (host, file) in &arguments.ca {
        let wrong = |source| RegistriesError::Certificates { host: host.clone(), file: file.into(), source };
        let pem = bounded::read(Path::new(file), MAX_CERTIFICATES).map_err(wrong)?;
        let pem = pem.ok_or_else(|| wrong(io::Error::other(format!("more than {MAX_CERTIFICATES} bytes"))))?;
        let pem = String::from_utf8(pem).map_err(|_| wrong(io::Error::other("is not UTF-8")))?;
        of(host, &mut |settings| settings.ca_pem = Some(pem.clone()));
    }
    for (host, mirror) in &arguments.mirror {
        of(host, &mut |settings| settings.mirror = Some(mirror.clone()));
    }
    let registry = Registry::new(settings.into_values().collect(), &[])?;
    Ok(match transport {
        Some(transport) => registry.through(transport),
        None => registry,
    })
}

/// What to do about an unknown, where the webhook's advice is about its own settings.
pub fn advice(cause: UnknownCause, otherwise: &str) -> String {
    match cause {
        UnknownCause::Deadline => "try again, with a longer --timeout".to_owned(),
        UnknownCause::Unreachable => "check that the registry is up and reachable from here".to_owned(),
        UnknownCause::Guarded => {
            "name this registry with --plain-http, --ca or --mirror if its address is meant".to_owned()
        }
        UnknownCause::Unauthorized | UnknownCause::ImageNotFound => {
            "check the name, log in (docker login), or name credentials with --registry-config".to_owned()
        }
        UnknownCause::RateLimited => "try again later, or log in".to_owned(),
        _ => otherwise.to_owned(),
    }
}
