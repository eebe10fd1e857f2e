//! How HTTP clients are built: one TLS stack, perhaps with a certificate authority of one's own. What is requested from
//! whom is decided by those who use them.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::header::HOST;
use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder, Response};
use slipway_protocol::{ErrorCode, HealthCheck};
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

/// Asks a project's page as its health check wants it.
pub(crate) fn page_request(client: &Client, url: &str, check: &HealthCheck) -> RequestBuilder {
    let request = client.get(url);
    match &check.host {
        Some(host) => request.header(HOST, host.url_form()),
        None => request,
    }
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

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// The head of one request, as a page gets it.
    async fn head_of(check: &HealthCheck) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://127.0.0.1:{}/health", listener.local_addr().expect("an address").port());
        let client = probe_client().expect("a client");
        let (answer, head) = tokio::join!(page_request(&client, &url, check).send(), async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut lines = BufReader::new(&mut stream).lines();
            let mut head = Vec::new();
            while let Some(line) = lines.next_line().await.expect("a line").filter(|line| !line.is_empty()) {
                head.push(line.to_ascii_lowercase());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("an answer");
            head
        });
        assert_eq!(answer.expect("an answer").status(), 200);
        head.into_iter().filter(|line| line.starts_with("host:")).collect()
    }

    #[tokio::test]
    async fn a_page_is_asked_under_the_host_that_its_health_check_names() {
        let of = |host: &str| HealthCheck { host: Some(host.parse().expect("a host")), ..HealthCheck::default() };
        assert_eq!(head_of(&of("shop.example.org")).await, ["host: shop.example.org"]);
        assert_eq!(head_of(&of("2001:db8::1")).await, ["host: [2001:db8::1]"]);
        let [usual] = head_of(&HealthCheck::default()).await.try_into().expect("one host");
        assert!(usual.starts_with("host: 127.0.0.1:"), "{usual}");
    }
}
