//! A strict stand-in for GitHub: the REST API of api.github.com and the git server of github.com.
//!
//! Both listen on addresses the test chooses, on one thread with a runtime of its own, and share one state in memory
//! that the test inspects and steers through [`GitHub`]. The API refuses what GitHub refuses, with GitHub's status
//! codes, bodies and headers; the git server is the real `git http-backend` behind GitHub's rules of access.
//!
//! It sends the App's webhooks when a test says that something happened.
//!
//! Deliberately not here: GraphQL, OAuth, packages (ghcr.io), and any endpoint that Slipway doesn't call. An unknown path is a 404, so a new call shows up as a failing test.

mod apps;
mod caller;
mod cgi;
mod conditional;
mod deployments;
mod dispatch;
mod error;
mod faults;
mod gate;
mod git;
mod hosted_repository;
mod inspect;
mod jwt;
mod limits;
mod listener;
mod permissions;
mod policies;
mod random;
mod references;
mod repos;
mod request;
mod route;
mod runs;
mod secrets;
mod setup;
mod shapes;
mod shared;
mod state;
mod tls;
mod tokens;
mod webhooks;

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context as _;
use axum::Router;
use tokio::sync::oneshot;

pub use faults::{FaultEffect, PlantedFault, StandInServer};
pub use hosted_repository::{CreatedDeployment, DeploymentStatus};
pub use jwt::sign_web_token;
pub use limits::RateLimits;
pub use permissions::Level;
pub use setup::{NewRepository, NewToken};
pub use state::{GitRequest, KeptExchange, OrganizationPolicy, RestRequest, SecretWrite};
pub use tls::TlsFiles;
pub use webhooks::{SentWebhook, sign};

use listener::{Acceptor, PeerInfo};
use shared::SharedGithub;
use state::GithubState;

use crate::world::Cache;

/// Where the stand-in listens and where its repositories are.
#[derive(Debug, Clone)]
pub struct GitHubOptions {
    /// Address of the REST API; port 0 takes a free one.
    pub api_addr: SocketAddr,
    /// Address of the git server; port 0 takes a free one.
    pub git_addr: SocketAddr,
    /// `None` speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Bare repositories live at `<git_root>/<owner>/<name>.git`.
    pub git_root: PathBuf,
    /// The app's private key, a file in PEM, PKCS#1; `None` makes a fresh one, which takes a third of a second.
    pub app_key: Option<PathBuf>,
}

impl GitHubOptions {
    /// Plain HTTP on free ports of the loopback interface, with the key that `tests/prepare` has made.
    ///
    /// # Errors
    /// When `tests/prepare` has not run.
    pub fn loopback(git_root: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let app_key = Some(Cache::open()?.key("app.pem"));
        Ok(Self { api_addr: any, git_addr: any, tls: None, git_root: git_root.into(), app_key })
    }
}

/// The running stand-in. Dropping it closes both servers and every connection to them.
pub struct GitHub {
    shared: Arc<SharedGithub>,
    app_key: jwt::AppKey,
    api_addr: SocketAddr,
    git_addr: SocketAddr,
    /// The servers' event loop.
    events: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GitHub {
    /// Starts both servers. They live in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When an address is taken, a PEM file is unreadable, or `openssl` can't make the app's key.
    pub fn start(options: GitHubOptions) -> anyhow::Result<Self> {
        let app_key = match &options.app_key {
            Some(file) => {
                let pem = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
                jwt::AppKey::new(pem)?
            }
            None => jwt::AppKey::generate()?,
        };
        let tls = options.tls.as_ref().map(tls::server_config).transpose()?;
        let (api, api_addr) = bind(options.api_addr)?;
        let (git, git_addr) = bind(options.git_addr)?;
        let shared = Arc::new(SharedGithub::new(
            GithubState::new(app_key.public_der().to_vec()),
            options.git_root,
            if tls.is_some() { "https" } else { "http" },
        ));

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let events = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let for_servers = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("github".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve(api, tls.clone(), gate::router(Arc::clone(&for_servers))) => {}
                    () = serve(git, tls, git::router(for_servers)) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { shared, app_key, api_addr, git_addr, events, stop: Some(stop), thread: Some(thread) })
    }

    /// The address the REST API really listens on.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api_addr
    }

    /// The address the git server really listens on.
    #[must_use]
    pub fn git_addr(&self) -> SocketAddr {
        self.git_addr
    }

    /// Private key of the GitHub App, as GitHub's settings page would give it (PEM, PKCS#1).
    #[must_use]
    pub fn app_private_key_pem(&self) -> &str {
        self.app_key.pem()
    }
}

impl Drop for GitHub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread can only fail by a panic, which the failing request has shown already.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub").field("api", &self.api_addr).field("git", &self.git_addr).finish_non_exhaustive()
    }
}

/// Binds on the calling thread, so that a taken address is the caller's error.
fn bind(addr: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).with_context(|| format!("bind {addr}"))?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

async fn serve(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>, router: Router) {
    let Ok(acceptor) = Acceptor::new(listener, tls) else {
        return;
    };
    // Runs until it is dropped; axum's server has no error of its own.
    let _ = axum::serve(acceptor, router.into_make_service_with_connect_info::<PeerInfo>()).await;
}
