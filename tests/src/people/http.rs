//! A small HTTP server of a stand-in: on loopback, in the test's own runtime, gone with it.

use std::net::SocketAddr;

use axum::Router;

/// Serves `router` on a free port.
pub(super) async fn serve(router: Router) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
