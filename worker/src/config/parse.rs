//! Parsers of single values. Files are read by `files`; what several values mean together is decided in `sections`.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use slipway_deploy::{DoorImage, PlainWord};
use tracing_subscriber::EnvFilter;

use crate::scheduler::PortRange;
use crate::store::DatabasePooler;

pub(super) use super::url::{acme_directory, amqp_url, base_url, database_url, otlp_endpoint};

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParseError {
    /// It isn't what the variable's entry expects.
    Unexpected,
    /// This problem, described without any secret.
    Because(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Plain lines for a person who reads along.
    Text,
}

fn accept<T>(value: T, valid: bool) -> Result<T, ParseError> {
    if valid { Ok(value) } else { Err(ParseError::Unexpected) }
}

fn number<T: FromStr + PartialOrd>(value: &str, least: T, most: T) -> Result<T, ParseError> {
    let number = value.parse::<T>().map_err(|_| ParseError::Unexpected)?;
    let valid = (least..=most).contains(&number);
    accept(number, valid)
}

/// Durations such as `25s`, `1m 30s`, `500ms` or `PT10M`; a number without a unit is refused as ambiguous.
fn duration(value: &str, least: Duration, most: Duration) -> Result<Duration, ParseError> {
    let duration = value.parse::<jiff::SignedDuration>().map_err(|_| ParseError::Unexpected)?;
    let duration = Duration::try_from(duration).map_err(|_| ParseError::Unexpected)?;
    accept(duration, (least..=most).contains(&duration))
}

const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn drain_timeout(value: &str) -> Result<Duration, ParseError> {
    duration(value, Duration::ZERO, HOUR)
}

pub(super) fn lease(value: &str) -> Result<Duration, ParseError> {
    duration(value, SECOND, HOUR / 6)
}

pub(super) fn retry(value: &str) -> Result<Duration, ParseError> {
    duration(value, Duration::from_millis(1), 24 * HOUR)
}

pub(super) fn work_timeout(value: &str) -> Result<Duration, ParseError> {
    duration(value, SECOND, 6 * HOUR)
}

pub(super) fn patience(value: &str) -> Result<Duration, ParseError> {
    duration(value, SECOND, 168 * HOUR)
}

pub(super) fn push_interval(value: &str) -> Result<Duration, ParseError> {
    duration(value, 10 * SECOND, 24 * HOUR)
}

pub(super) fn limit(value: &str) -> Result<u32, ParseError> {
    number(value, 1, 1000)
}

pub(super) fn mib(value: &str) -> Result<u32, ParseError> {
    number(value, 1, 16_777_216)
}

pub(super) fn port_range(value: &str) -> Result<PortRange, ParseError> {
    value.parse().map_err(|_| ParseError::Unexpected)
}

pub(super) fn repository_mib(value: &str) -> Result<u64, ParseError> {
    number(value, 1, 102_400)
}

pub(super) fn repository_files(value: &str) -> Result<u64, ParseError> {
    number(value, 1, 10_000_000)
}

pub(super) fn processes(value: &str) -> Result<u32, ParseError> {
    number(value, 0, 4_194_304)
}

pub(super) fn long_duration(value: &str) -> Result<Duration, ParseError> {
    duration(value, SECOND, 30 * 24 * HOUR)
}

pub(super) fn concurrency(value: &str) -> Result<usize, ParseError> {
    number(value, 1, 1000)
}

pub(super) fn attempts(value: &str) -> Result<u32, ParseError> {
    number(value, 1, 100)
}

pub(super) fn days(value: &str) -> Result<u32, ParseError> {
    number(value, 1, 36_500)
}

pub(super) fn versions(value: &str) -> Result<u32, ParseError> {
    number(value, 1, 100)
}

pub(super) fn socket_address(value: &str) -> Result<SocketAddr, ParseError> {
    value.parse().map_err(|_| ParseError::Unexpected)
}

pub(super) fn switch(value: &str) -> Result<bool, ParseError> {
    value.parse().map_err(|_| ParseError::Unexpected)
}

pub(super) fn on_off(value: &str) -> Result<bool, ParseError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(ParseError::Unexpected),
    }
}

pub(super) fn proving_time(value: &str) -> Result<Duration, ParseError> {
    duration(value, SECOND, HOUR / 6)
}

/// An image without its digest may be another one on each server, and tomorrow.
pub(super) fn door_image(value: &str) -> Result<DoorImage, ParseError> {
    DoorImage::new(value).ok_or_else(|| match value.contains("@sha256:") {
        true => ParseError::Unexpected,
        false => ParseError::Because("isn't pinned by its digest (@sha256: and 64 hexadecimal digits)".into()),
    })
}

pub(super) fn word(value: &str) -> Result<PlainWord, ParseError> {
    PlainWord::new(value).ok_or(ParseError::Unexpected)
}

pub(super) fn email(value: &str) -> Result<PlainWord, ParseError> {
    let named =
        value.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    accept((), named)?;
    word(value)
}

pub(super) fn worker_name(value: &str) -> Result<String, ParseError> {
    accept(value.to_owned(), value.len() <= 128 && value.bytes().all(|b| b.is_ascii_graphic()))
}

pub(super) fn app_id(value: &str) -> Result<String, ParseError> {
    accept(value.to_owned(), value.len() <= 64 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'))
}

pub(super) fn text(value: &str) -> Result<String, ParseError> {
    accept(value.to_owned(), value.len() <= 256 && !value.chars().any(char::is_control) && value.trim() == value)
}

/// Strict, since the path is part of commands on servers.
pub(super) fn project_root(value: &str) -> Result<String, ParseError> {
    let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let part = |p: &str| !p.is_empty() && !matches!(p, "." | "..") && !p.starts_with('-') && p.bytes().all(byte);
    let valid = value.len() <= 200 && value.strip_prefix('/').is_some_and(|path| path.split('/').all(part));
    accept(value.to_owned(), valid)
}

pub(super) fn registry(value: &str) -> Result<String, ParseError> {
    let (host, port) = value.split_once(':').map_or((value, None), |(host, port)| (host, Some(port)));
    let host = slipway_protocol::names::Host::new(host).is_ok() && !host.bytes().any(|b| b.is_ascii_uppercase());
    let port = port.is_none_or(|port| number::<u16>(port, 1, u16::MAX).is_ok());
    accept(value.to_owned(), host && port)
}

pub(super) fn log_filter(value: &str) -> Result<String, ParseError> {
    EnvFilter::builder()
        .parse(value)
        .map(|_| value.to_owned())
        .map_err(|error| ParseError::Because(format!("is {value:?}, which can't be read: {error}")))
}

pub(super) fn database_pooler(value: &str) -> Result<DatabasePooler, ParseError> {
    value.parse().map_err(|_| ParseError::Unexpected)
}

pub(super) fn log_format(value: &str) -> Result<LogFormat, ParseError> {
    match value {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err(ParseError::Unexpected),
    }
}
