//! URLs of the environment: those with a password, which is never shown, and those that must not have one.

use reqwest::Url;
use secrecy::SecretString;
use slipway_deploy::PlainWord;
use tokio_postgres::config::Host;

use super::parse::ParseError;
use crate::amqp::{BrokerAddress, NotAnAddress};

/// A URL that holds a password. `Debug` and `Display` leave password and query out.
#[derive(Clone)]
pub struct ConnectionUrl {
    url: SecretString,
    shown: String,
}

impl ConnectionUrl {
    /// The whole URL, password included; for the client library only.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.url
    }
}

impl std::fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ConnectionUrl({})", self.shown)
    }
}

/// One URL or a list of them, as [`BrokerAddress::list`] reads it.
pub(super) fn amqp_url(value: &str) -> Result<ConnectionUrl, ParseError> {
    let addresses =
        BrokerAddress::list(value).map_err(|NotAnAddress(place)| match value.trim().contains([',', ' ']) {
            false => ParseError::Unexpected,
            true => ParseError::Because(format!(
                "holds an address (number {place}) that isn't amqp:// or amqps:// with a host"
            )),
        })?;
    let shown: Vec<_> = addresses.iter().map(BrokerAddress::with_user).collect();
    Ok(ConnectionUrl { url: value.into(), shown: shown.join(", ") })
}

/// The client library's own parser decides, so that nothing passes here that fails later. Its error isn't repeated: of
/// a badly encoded URL it may quote a part of the password. The shown form is put together from the parsed parts, since
/// several hosts aren't a WHATWG URL.
pub(super) fn database_url(value: &str) -> Result<ConnectionUrl, ParseError> {
    if !value.starts_with("postgres://") && !value.starts_with("postgresql://") {
        return Err(ParseError::Unexpected);
    }
    let config = value.parse::<tokio_postgres::Config>().map_err(|_| ParseError::Unexpected)?;
    let hosts: Vec<String> =
        config.get_hosts().iter().zip(ports(&config)).map(|(host, port)| with_port(host, port)).collect();
    let (Some(user), Some(database), false) = (config.get_user(), config.get_dbname(), hosts.is_empty()) else {
        return Err(ParseError::Unexpected);
    };
    let password = if config.get_password().is_some() { ":***" } else { "" };
    let shown = format!("postgresql://{user}{password}@{}/{database}", hosts.join(","));
    Ok(ConnectionUrl { url: value.into(), shown })
}

/// One port for each host: none given means 5432, one given means that one for all.
fn ports(config: &tokio_postgres::Config) -> impl Iterator<Item = u16> {
    let ports = config.get_ports();
    (0..).map(move |i| ports.get(i).or(ports.first()).copied().unwrap_or(5432))
}

fn with_port(host: &Host, port: u16) -> String {
    match host {
        Host::Tcp(name) => format!("{name}:{port}"),
        Host::Unix(path) => format!("{}:{port}", path.display()),
    }
}

/// An HTTP(S) URL that others are appended to: without credentials, query and final slash.
pub(super) fn base_url(value: &str) -> Result<String, ParseError> {
    let url = http_url(value)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ParseError::Because("holds a user or a password, which belong into files of their own".into()));
    }
    Ok(value.trim_end_matches('/').to_owned())
}

/// As it is: a final slash may be part of it.
pub(super) fn acme_directory(value: &str) -> Result<PlainWord, ParseError> {
    base_url(value)?;
    PlainWord::new(value).filter(|url| url.as_str().starts_with("https://")).ok_or(ParseError::Unexpected)
}

pub(super) fn otlp_endpoint(value: &str) -> Result<String, ParseError> {
    base_url(value)
}

fn http_url(value: &str) -> Result<Url, ParseError> {
    let url = Url::parse(value).map_err(|_| ParseError::Unexpected)?;
    let valid = matches!(url.scheme(), "http" | "https")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.query().is_none()
        && url.fragment().is_none();
    if valid { Ok(url) } else { Err(ParseError::Unexpected) }
}
