//! How HTTP clients are built here: one TLS stack, perhaps a certificate authority of one's own. What is asked of whom
//! stands with those who ask.

use std::error::Error;
use std::path::Path;

use reqwest::{Certificate, Client, ClientBuilder};

/// A client that trusts the system's authorities and those in `ca_file`.
///
/// # Errors
/// A sentence about the file.
pub(crate) fn builder(ca_file: Option<&Path>) -> Result<ClientBuilder, String> {
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
