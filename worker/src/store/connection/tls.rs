//! TLS to PostgreSQL with rustls and ring: the system's roots plus an optional CA of one's own. Whether TLS is used at
//! all is `sslmode`'s decision; a certificate is always verified.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::{Result, StoreError};

pub(in crate::store) type TlsConnector = MakeRustlsConnect;

pub(in crate::store) fn connector(config: &tokio_postgres::Config, ca_file: Option<&Path>) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    if config.get_ssl_mode() != SslMode::Disable {
        // A broken certificate in the system's store must not keep the others from being used.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let unusable = |e: &dyn std::fmt::Display| StoreError::Url(format!("CA file {}: {e}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unusable(&e))? {
            roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::Url(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
