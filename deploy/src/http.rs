//! How HTTP clients are built: one TLS stack, perhaps with a certificate authority of one's own. What is requested from
//! whom is decided by those who use them.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Response};
use slipway_protocol::ErrorCode;
use zeroize::Zeroizing;

use crate::StageError;
use crate::budget::Budget;

/// How long a project may take for one answer.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that trusts the system's authorities and those in `ca_file`.
///
/// # Errors
/// A sentence about the file.
pub fn builder(ca_file: Option<&Path>) -> Result<ClientBuilder, String> {
    // Only the first one in a process counts; all of Slipway's crates install this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder().user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")));
    let Some(file) = ca_file else { return Ok(builder) };
    let refuse = |why: String| format!("the CA file {}: {why}", file.display());
    let pem = std::fs::read(file).map_err(|e| refuse(e.to_string()))?;
    let authorities = Certificate::from_pem_bundle(&pem).map_err(|e| refuse(chain(&e)))?;
    if authorities.is_empty() {
        return Err(refuse("holds no certificate".to_owned()));
    }
    Ok(builder.tls_certs_merge(authorities))
}

/// As [`probe_client`], for pages under their domains, which it takes to lead to `server`. Certificates are checked.
///
/// # Errors
/// `internal-error` when TLS can't be set up, or the CA file can't be read.
pub(crate) fn domain_client<'a>(
    ca_file: Option<&Path>,
    domains: impl Iterator<Item = &'a str>,
    server: &[SocketAddr],
) -> Result<Client, StageError> {
    let refuse = |why: String| StageError::new(ErrorCode::InternalError, format!("no HTTP client: {why}"));
    domains
        .fold(builder(ca_file).map_err(refuse)?, |builder, domain| builder.resolve_to_addrs(domain, server))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        // What has no certificate yet must not be taken for what has one.
        .pool_max_idle_per_host(0)
        .timeout(PROBE_TIMEOUT)
        .connect_timeout(PROBE_TIMEOUT / 2)
        .build()
        .map_err(|e| refuse(e.to_string()))
}

/// A client for the projects' own pages. It follows no redirects and uses no proxy, so that it sees what anybody sees.
///
/// # Errors
/// `internal-error` when TLS can't be set up.
pub(crate) fn probe_client() -> Result<Client, StageError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PROBE_TIMEOUT)
        // Shorter than the time-out above, so that no connection differs from no answer.
        .connect_timeout(PROBE_TIMEOUT / 2)
        .build()
        .map_err(|e| StageError::new(ErrorCode::InternalError, format!("no HTTP client: {e}")))
}

/// Why an answer couldn't be read.
pub(crate) enum AnswerError {
    /// It has more than the budget allows.
    TooLarge,
    /// The connection broke, or was too slow.
    Broken(reqwest::Error),
}

/// The body of an answer, if it isn't larger than `budget` allows.
pub(crate) async fn read_answer(answer: &mut Response, mut budget: Budget) -> Result<Zeroizing<Vec<u8>>, AnswerError> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = answer.chunk().await.map_err(AnswerError::Broken)? {
        if !budget.take(chunk.len()) {
            return Err(AnswerError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error with its sources, once each.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
