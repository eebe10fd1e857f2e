//! Places that may be named in a script for the server: directories, registries and git servers. Each type guarantees
//! that it holds plain characters only; [`crate::remote::quote`] quotes them.

use slipway_protocol::names::{Host, RepositoryName, Slug};

/// An absolute directory on a server, in plain characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemotePath(String);

impl RemotePath {
    /// Checks that `value` is absolute, has no empty, `.` or `..` part and holds letters, digits, `.`, `_`, `-` only.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let part = |p: &str| {
            !matches!(p, "" | "." | "..")
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(part)).then(|| Self(value.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of a project below this one.
    #[must_use]
    pub fn of_project(&self, slug: &Slug) -> Self {
        Self(format!("{}/{slug}", self.0))
    }
}

/// Host and perhaps port of an image registry, in plain characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryHost(String);

impl RegistryHost {
    /// Checks that `value` is `host` or `host:port`.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let (host, port) = value.split_once(':').map_or((value, None), |(host, port)| (host, Some(port)));
        let valid = Host::new(host).is_ok() && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0));
        valid.then(|| Self(value.to_owned()))
    }

    /// The host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where git fetches from: an HTTP or HTTPS URL without credential, query or fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl(String);

impl HttpsUrl {
    /// Checks that `value` is such a URL.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'[' | b']');
        (!rest.is_empty() && rest.bytes().all(plain)).then(|| Self(value.trim_end_matches('/').to_owned()))
    }

    /// The URL of a repository below this one.
    #[must_use]
    pub fn of_repository(&self, name: &RepositoryName) -> Self {
        Self(format!("{}/{name}.git", self.0))
    }

    /// The URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
