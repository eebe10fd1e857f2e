//! Names that are valid by construction: nothing that reaches a shell, a path or a compose file is a bare `String`.
//!
//! Each type checks at construction and at deserialisation. The error names the rule and never repeats the value,
//! since the value may be a secret that landed in the wrong field. Quoting is not done here: it's `deploy`'s job.

use std::borrow::Cow;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A value that breaks the rule of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} must {rule}")]
pub struct InvalidName {
    /// What was being read, such as `slug`.
    pub what: &'static str,
    /// The rule, worded to follow "must".
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $pattern:literal, $max:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let pattern: &str = $pattern;
                let max: usize = $max;
                json_schema!({ "type": "string", "pattern": pattern, "maxLength": max })
            }
        }

        impl $type {
            /// Checks `value` against the rule of this name.
            ///
            /// # Errors
            /// [`InvalidName`] with the rule; it doesn't repeat the value.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
                let value = value.into();
                let valid: fn(&str) -> bool = $valid;
                if value.len() <= $max && valid(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidName { what: $what, rule: $rule })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

pub(crate) use name;

/// True when `value` starts with a byte of `first` and goes on with bytes of `rest` only.
fn shaped(value: &str, first: fn(u8) -> bool, rest: fn(u8) -> bool) -> bool {
    let mut bytes = value.bytes();
    bytes.next().is_some_and(first) && bytes.all(rest)
}

name!(
    /// The one spelling of a project: directory, compose project, image label and routing key word.
    Slug, "slug", "match ^[a-z][a-z0-9-]{0,39}$", r"^[a-z][a-z0-9-]{0,39}$", 40,
    |v| shaped(v, |b| b.is_ascii_lowercase(), |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);

name!(
    /// A GitHub repository, `owner/name`. The name may hold dots, hyphens and capitals, and is never `.` or `..`.
    RepositoryName, "repository", "be owner/name as GitHub allows it",
    r"^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$", 140,
    |v| v.split_once('/').is_some_and(|(owner, name)| {
        owner.len() <= 39
            && shaped(owner, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b == b'-')
            && name.len() <= 100
            && !matches!(name, "." | "..")
            && shaped(name, repository_byte, repository_byte)
    })
);

fn repository_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}

impl RepositoryName {
    /// The part before the slash.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.0.split_once('/').map_or("", |(owner, _)| owner)
    }

    /// The part after the slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

name!(
    /// A full commit SHA: 40 lower-case hexadecimal digits.
    CommitSha, "commit", "be 40 lower-case hexadecimal digits", r"^[0-9a-f]{40}$", 40,
    |v| v.len() == 40 && v.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
);

impl CommitSha {
    /// The first seven digits, as CI writes them into image tags.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

name!(
    /// A git branch, by a safe subset of git's rules for reference names (git-check-ref-format).
    BranchName, "branch", "be a plain git branch name", r"^[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}$", 200,
    |v| shaped(v, |b| b.is_ascii_alphanumeric() || b == b'_',
               |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'))
        && !v.contains("..") && !v.contains("//") && !v.contains("/.")
        && !v.ends_with(['/', '.']) && !v.ends_with(".lock") && !v.contains(".lock/")
);

name!(
    /// A server's handle in the inventory, such as `vps-267179`.
    ServerHandle, "server handle", "match ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", 64,
    |v| shaped(v, |b| b.is_ascii_alphanumeric(), repository_byte)
);

name!(
    /// An address that can be connected to: IPv4, IPv6 (no brackets) or a DNS name.
    Host, "host", "be an IP address or a DNS name", r"^[A-Za-z0-9:][A-Za-z0-9.:-]{0,252}$", 253,
    |v| v.parse::<IpAddr>().is_ok() || dns_name(v)
);

/// RFC 1123 labels; a last label of digits only would be a malformed IPv4 address.
pub(crate) fn dns_name(v: &str) -> bool {
    let label = |l: &str| {
        l.len() <= 63
            && !l.ends_with('-')
            && shaped(l, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || b == b'-')
    };
    v.split('.').all(label) && v.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

impl Host {
    /// The host as it stands in a URL: an IPv6 address gets brackets.
    #[must_use]
    pub fn url_form(&self) -> String {
        if self.0.contains(':') { format!("[{}]", self.0) } else { self.0.clone() }
    }
}

name!(
    /// A path of a URL, with a query perhaps: `/health`.
    UrlPath, "URL path", "match ^/[A-Za-z0-9/._~%?=&+-]{0,199}$", r"^/[A-Za-z0-9/._~%?=&+-]{0,199}$", 200,
    |v| shaped(v, |b| b == b'/', |b| b.is_ascii_alphanumeric() || b"/._~%?=&+-".contains(&b))
);

name!(
    /// A compose service, such as `tg_bot`.
    ServiceName, "service", "match ^[a-z][a-z0-9_-]{0,62}$", r"^[a-z][a-z0-9_-]{0,62}$", 63,
    |v| shaped(v, |b| b.is_ascii_lowercase(),
               |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
);

name!(
    /// An environment variable that a project may be given. Names that steer the shell, the loader, git or docker
    /// on the server are refused, and so is `PORT`, which would move the listener inside the container.
    VariableName, "variable name", "match ^[A-Z_][A-Z0-9_]{0,99}$ and not be reserved", r"^[A-Z_][A-Z0-9_]{0,99}$", 100,
    |v| shaped(v, |b| b.is_ascii_uppercase() || b == b'_',
               |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') && !reserved(v)
);

fn reserved(v: &str) -> bool {
    const NAMES: [&str; 12] =
        ["PORT", "PATH", "HOME", "IFS", "ENV", "BASH_ENV", "SHELL", "USER", "PWD", "PS4", "SHELLOPTS", "HOSTNAME"];
    const PREFIXES: [&str; 6] = ["LD_", "COMPOSE_", "DOCKER_", "GIT_", "BUILDKIT_", "SSH_"];
    NAMES.contains(&v) || PREFIXES.iter().any(|p| v.starts_with(p))
}

name!(
    /// The name of a secret mounted into the workers, which an event may refer to instead of carrying a sealed box.
    SecretReference, "secret reference", "match ^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", 128,
    |v| shaped(v, |b| b.is_ascii_alphanumeric(), repository_byte) && !v.contains("..")
);

name!(
    /// The user of a credential for the image registry.
    RegistryUser, "registry user", "match ^[A-Za-z0-9_$][A-Za-z0-9._@+$-]{0,127}$", r"^[A-Za-z0-9_$][A-Za-z0-9._@+$-]{0,127}$", 128,
    |v| shaped(v, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'),
               |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'+' | b'$' | b'-'))
);

name!(
    /// A login name on a server.
    UserName, "ssh user", "match ^[a-z_][a-z0-9_-]{0,31}$", r"^[a-z_][a-z0-9_-]{0,31}$", 32,
    |v| shaped(v, |b| b.is_ascii_lowercase() || b == b'_',
               |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
);

name!(
    /// A server's public SSH host key: `ssh-ed25519 AAAA…` without a comment.
    HostKey, "host key", "be an OpenSSH public key without comment", r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+={0,3}$", 2048,
    |v| v.split_once(' ').is_some_and(|(kind, key)| {
        matches!(kind, "ssh-ed25519" | "ssh-rsa" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" | "ecdsa-sha2-nistp521")
            && shaped(key.trim_end_matches('='), base64_byte, base64_byte)
    })
);

fn base64_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')
}

/// A TCP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Port(u16);

impl JsonSchema for Port {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": 65535 })
    }
}

impl Port {
    /// Checks that `value` isn't zero.
    ///
    /// # Errors
    /// [`InvalidName`] when it is.
    pub fn new(value: u16) -> Result<Self, InvalidName> {
        if value == 0 { Err(InvalidName { what: "port", rule: "be from 1 to 65535" }) } else { Ok(Self(value)) }
    }

    /// The port as a number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Port {
    type Error = InvalidName;
    fn try_from(value: u16) -> Result<Self, InvalidName> {
        Self::new(value)
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> u16 {
        port.0
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
