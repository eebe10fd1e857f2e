//! What an operator allows a project, or all projects of a server, beyond what every project gets. Typed, so that the
//! inventory can't hold what nothing here understands.

use std::fmt;
use std::str::FromStr;

/// One thing that is allowed. Its text is what operators type and what the database keeps.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowance {
    /// `privileged`: everything; whoever writes the project is root on the server.
    Privileged,
    /// `network:host`
    HostNetwork,
    /// `pid:host`
    HostPid,
    /// `ipc:host`
    HostIpc,
    /// `cap:NET_ADMIN`
    Capability(String),
    /// `device:/dev/dri`
    Device(String),
    /// `bind:/srv/media` or `bind:/srv/media:ro`; this very path, and nothing below it.
    Bind {
        /// The path on the server.
        path: String,
        /// Whether it may only be mounted read-only.
        read_only: bool,
    },
    /// `port:1234`: a port of the server that no allocation gives.
    Port(u16),
    /// `external-volume:NAME`
    ExternalVolume(String),
    /// `external-network:NAME`
    ExternalNetwork(String),
    /// `sysctl:net.ipv4.ip_forward`
    Sysctl(String),
    /// `image:ghcr.io/other/app`: all tags of an image that another owner keeps in the workers' registry.
    Image(String),
}

/// A text that is no allowance, with the rule that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no allowance: it must be privileged, network:host, pid:host, ipc:host, cap:NAME, device:/dev/…, \
     bind:/PATH[:ro], port:NUMBER, external-volume:NAME, external-network:NAME, sysctl:NAME or image:REGISTRY/OWNER/NAME"
)]
pub struct InvalidAllowance(String);

impl FromStr for Allowance {
    type Err = InvalidAllowance;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAllowance(text.chars().take(80).collect());
        match text {
            "privileged" => return Ok(Self::Privileged),
            "network:host" => return Ok(Self::HostNetwork),
            "pid:host" => return Ok(Self::HostPid),
            "ipc:host" => return Ok(Self::HostIpc),
            _ => {}
        }
        let (kind, value) = text.split_once(':').ok_or_else(invalid)?;
        let allowance = match kind {
            "cap" => is_name(value, "_").then(|| Self::Capability(capability(value))),
            "device" => is_path(value).then(|| Self::Device(value.to_owned())),
            "bind" => {
                let (path, read_only) = value.strip_suffix(":ro").map_or((value, false), |path| (path, true));
                is_path(path).then(|| Self::Bind { path: path.to_owned(), read_only })
            }
            "port" => value.parse().ok().filter(|port| *port > 0).map(Self::Port),
            "external-volume" => is_name(value, "_.-").then(|| Self::ExternalVolume(value.to_owned())),
            "external-network" => is_name(value, "_.-").then(|| Self::ExternalNetwork(value.to_owned())),
            "sysctl" => is_name(value, "_.-").then(|| Self::Sysctl(value.to_owned())),
            "image" => is_name(value, "_.-/").then(|| Self::Image(value.to_owned())),
            _ => None,
        };
        allowance.ok_or_else(invalid)
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Privileged => f.write_str("privileged"),
            Self::HostNetwork => f.write_str("network:host"),
            Self::HostPid => f.write_str("pid:host"),
            Self::HostIpc => f.write_str("ipc:host"),
            Self::Capability(name) => write!(f, "cap:{name}"),
            Self::Device(path) => write!(f, "device:{path}"),
            Self::Bind { path, read_only } => write!(f, "bind:{path}{}", if *read_only { ":ro" } else { "" }),
            Self::Port(port) => write!(f, "port:{port}"),
            Self::ExternalVolume(name) => write!(f, "external-volume:{name}"),
            Self::ExternalNetwork(name) => write!(f, "external-network:{name}"),
            Self::Sysctl(name) => write!(f, "sysctl:{name}"),
            Self::Image(name) => write!(f, "image:{name}"),
        }
    }
}

/// As Docker compares them: in capitals, without the prefix.
pub(super) fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").map_or(name.clone(), str::to_owned)
}

fn is_name(text: &str, others: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    !text.is_empty() && text.len() <= 200 && text.chars().all(good)
}

/// An absolute path in its shortest form, that isn't the root, without a character that means something elsewhere.
fn is_path(text: &str) -> bool {
    let parts = text.strip_prefix('/').map(|rest| rest.split('/'));
    let good = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(|c| !c.is_control() && c != ':');
    text.len() <= 400 && parts.is_some_and(|mut parts| parts.all(good))
}

#[cfg(test)]
mod tests {
    use super::Allowance;

    #[test]
    fn an_allowance_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in [
            "privileged",
            "network:host",
            "pid:host",
            "ipc:host",
            "cap:NET_ADMIN",
            "device:/dev/dri",
            "bind:/srv/media",
            "bind:/srv/media:ro",
            "port:1234",
            "external-volume:shared.data",
            "external-network:traefik",
            "sysctl:net.ipv4.ip_forward",
            "image:ghcr.io/other/app",
        ] {
            assert_eq!(text.parse::<Allowance>().map(|a| a.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("cap:cap_net_admin".parse::<Allowance>().map(|a| a.to_string()).as_deref(), Ok("cap:NET_ADMIN"));
        for text in [
            "",
            "everything",
            "network:other",
            "cap:",
            "cap:A B",
            "device:dri",
            "bind:/",
            "bind:/srv/../etc",
            "bind:/srv/",
            "bind:/a:rw",
            "port:0",
            "port:70000",
            "external-volume:a/b",
            "image:ghcr.io/other/app:1",
        ] {
            assert!(text.parse::<Allowance>().is_err(), "{text}");
        }
    }
}
