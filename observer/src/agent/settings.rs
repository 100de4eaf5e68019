//! The program's settings: variables of its pod, every problem told at once.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use zastava_core::settings::{Problem, SettingsError, webhook::IntakeSettings};

const CA_FILE: &str = "/var/run/zastava/intake-ca/ca.crt";
const TOKEN_FILE: &str = "/var/run/zastava/intake-token/token";
const HTTP_PORT: u16 = 8080;

/// The program's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// `NODE_NAME`.
    pub node: String,
    /// `POD_NAME`.
    pub pod: String,
    /// `POD_NAMESPACE`.
    pub namespace: String,
    /// From `ZASTAVA_INTAKE_NAME`, with `ZASTAVA_INTAKE_URL`, `ZASTAVA_INTAKE_CA_FILE` and `ZASTAVA_INTAKE_TOKEN_FILE`
    /// where it is not as the operator mounts it.
    pub intake: IntakeSettings,
    /// `ZASTAVA_RUNTIME_SOCKETS`, with colons between.
    pub runtime_sockets: Vec<PathBuf>,
    /// `ZASTAVA_STATE_DIR`: the journal and the last rules.
    pub state: PathBuf,
    /// `ZASTAVA_HTTP_ADDRESS`: probes and metrics.
    pub http: SocketAddr,
}

/// Reads variables and notes what is wrong with them.
struct Reader<F> {
    lookup: F,
    problems: Vec<Problem>,
}

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    fn wrong(&mut self, code: &'static str, field: &str, message: impl Into<String>, hint: &str) {
        self.problems.push(Problem { code, field: field.into(), message: message.into(), hint: hint.into() });
    }

    fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    fn required(&mut self, name: &str, code: &'static str, hint: &str) -> String {
        self.optional(name).unwrap_or_else(|| {
            self.wrong(code, name, "is not set", hint);
            String::new()
        })
    }

    fn path(&mut self, name: &str, hint: &str) -> PathBuf {
        let path = PathBuf::from(self.required(name, "SURFACE_ENV_INVALID", hint));
        self.absolute(name, &path, hint);
        path
    }

    fn paths(&mut self, name: &str, hint: &str) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> = std::env::split_paths(&self.required(name, "SURFACE_ENV_INVALID", hint)).collect();
        for path in &paths {
            self.absolute(name, path, hint);
        }
        paths
    }

    fn absolute(&mut self, name: &str, path: &Path, hint: &str) {
        if !path.as_os_str().is_empty() && !path.is_absolute() {
            self.wrong("SURFACE_ENV_INVALID", name, format!("{} is not absolute", path.display()), hint);
        }
    }
}

impl AgentSettings {
    /// From variables.
    ///
    /// # Errors
    /// [`SettingsError::Problems`] with all of them.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut reader = Reader { lookup, problems: Vec::new() };
        let by_operator = "the operator's DaemonSet sets it from the pod's fields";
        let invalid = "SURFACE_ENV_INVALID";
        let node = reader.required("NODE_NAME", invalid, by_operator);
        let pod = reader.required("POD_NAME", invalid, by_operator);
        let namespace = reader.required("POD_NAMESPACE", invalid, by_operator);
        let name_hint = "name the intake's service, such as zastava-intake.zastava-system.svc";
        let server_name = reader.required("ZASTAVA_INTAKE_NAME", "SURFACE_ENV_MISSING_ENDPOINT", name_hint);
        let url = reader.optional("ZASTAVA_INTAKE_URL").unwrap_or_else(|| format!("https://{server_name}"));
        if !url.starts_with("https://") {
            let message = format!("{url:?} is no https URL");
            reader.wrong("SURFACE_ENV_MISSING_ENDPOINT", "ZASTAVA_INTAKE_URL", message, name_hint);
        }
        let socket_hint = "name where the container runtime may listen, such as /run/containerd/containerd.sock";
        let runtime_sockets = reader.paths("ZASTAVA_RUNTIME_SOCKETS", socket_hint);
        let state = reader.path("ZASTAVA_STATE_DIR", "name the mounted state directory, such as /var/lib/zastava");
        let http = match reader.optional("ZASTAVA_HTTP_ADDRESS").map(|address| (address.parse(), address)) {
            None => SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP_PORT)),
            Some((Ok(address), _)) => address,
            Some((Err(_), address)) => {
                let message = format!("{address:?} is no address");
                reader.wrong(invalid, "ZASTAVA_HTTP_ADDRESS", message, "write for example 0.0.0.0:8080");
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, HTTP_PORT))
            }
        };
        let ca_file = reader.optional("ZASTAVA_INTAKE_CA_FILE").unwrap_or_else(|| CA_FILE.to_owned());
        let token_file = reader.optional("ZASTAVA_INTAKE_TOKEN_FILE").unwrap_or_else(|| TOKEN_FILE.to_owned());
        for (name, file) in [("ZASTAVA_INTAKE_CA_FILE", &ca_file), ("ZASTAVA_INTAKE_TOKEN_FILE", &token_file)] {
            if !Path::new(file).is_absolute() {
                reader.wrong(
                    invalid,
                    name,
                    format!("{file} is not absolute"),
                    "leave it out where the operator deploys",
                );
            }
        }
        if !reader.problems.is_empty() {
            return Err(SettingsError::Problems(reader.problems));
        }
        let intake = IntakeSettings { url, server_name, ca_file, token_file };
        Ok(Self { node, pod, namespace, intake, runtime_sockets, state, http })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<AgentSettings, SettingsError> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        AgentSettings::read(|name| variables.get(name).map(|&value| value.to_owned()))
    }

    const WHOLE: [(&str, &str); 6] = [
        ("NODE_NAME", "node-1"),
        ("POD_NAME", "zastava-observer-x"),
        ("POD_NAMESPACE", "zastava-observer"),
        ("ZASTAVA_INTAKE_NAME", "zastava-intake.zastava-system.svc"),
        ("ZASTAVA_RUNTIME_SOCKETS", "/run/containerd/containerd.sock:/run/crio/crio.sock"),
        ("ZASTAVA_STATE_DIR", "/var/lib/zastava"),
    ];

    #[test]
    fn what_the_operator_sets_is_enough() {
        let settings = read(&WHOLE).unwrap();
        assert_eq!(settings.intake.url, "https://zastava-intake.zastava-system.svc");
        assert_eq!(settings.intake.token_file, TOKEN_FILE);
        assert_eq!(settings.http.port(), HTTP_PORT);
        assert_eq!(settings.runtime_sockets[1], Path::new("/run/crio/crio.sock"));
        assert_eq!(settings.runtime_sockets.len(), 2);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let Err(SettingsError::Problems(problems)) = read(&[
            ("ZASTAVA_INTAKE_URL", "http://intake"),
            ("ZASTAVA_STATE_DIR", "state"),
            ("ZASTAVA_HTTP_ADDRESS", "8080"),
            ("ZASTAVA_INTAKE_CA_FILE", "ca.crt"),
        ]) else {
            panic!("settings that should not do")
        };
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "NODE_NAME",
                "POD_NAME",
                "POD_NAMESPACE",
                "ZASTAVA_INTAKE_NAME",
                "ZASTAVA_INTAKE_URL",
                "ZASTAVA_RUNTIME_SOCKETS",
                "ZASTAVA_STATE_DIR",
                "ZASTAVA_HTTP_ADDRESS",
                "ZASTAVA_INTAKE_CA_FILE",
            ]
        );
    }
}
