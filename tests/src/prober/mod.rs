//! Somebody who asks a service all the while, in every way that people's programs do: a new connection every ten
//! milliseconds, one that's kept, a WebSocket, uploads and downloads that take their time. What isn't answered is counted,
//! and who answered what. It knows nothing of deployments, nor of who stands in between.

mod answer;
mod asking;
mod failure;
mod line;
mod notebook;
mod report;
#[cfg(test)]
mod tests;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use tokio_util::sync::CancellationToken;

pub use answer::{Answerer, ProbeAnswer, ProbeKind, SocketBreak};
pub use failure::ProbeFailure;
use notebook::Notebook;
pub use report::{ProbeReport, thousands};

/// Asks from its start until it's stopped.
#[derive(Debug)]
pub struct Probes {
    stop: CancellationToken,
    notebook: Arc<Notebook>,
    thread: JoinHandle<Result<()>>,
}

impl Probes {
    /// Asks in every way. The thread that starts it must be in the world's network.
    ///
    /// # Errors
    /// When no runtime can be made.
    pub fn start(address: SocketAddr) -> Result<Self> {
        Self::start_with(address, &ProbeKind::ALL)
    }

    /// As [`Probes::start`], in these ways alone.
    ///
    /// # Errors
    /// As [`Probes::start`].
    pub fn start_with(address: SocketAddr, kinds: &[ProbeKind]) -> Result<Self> {
        let stop = CancellationToken::new();
        let notebook = Arc::new(Notebook::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (kinds, stopped, notes) = (kinds.to_vec(), stop.clone(), Arc::clone(&notebook));
        let asking = move || {
            runtime.block_on(asking::ask_until(stopped, address, kinds, notes));
            // What is asked at the end goes on in the background, and nobody waits for it.
            runtime.shutdown_background();
            Ok(())
        };
        let thread = thread::Builder::new().name("prober".to_owned()).spawn(asking).context("starting a thread")?;
        Ok(Self { stop, notebook, thread })
    }

    /// What was answered up to now.
    #[must_use]
    pub fn report(&self) -> ProbeReport {
        self.notebook.report()
    }

    /// Asks nothing more, waits for the answers to what was asked last, and tells.
    ///
    /// # Errors
    /// When those that ask have ended on their own.
    pub fn stop(self) -> Result<ProbeReport> {
        self.stop.cancel();
        self.thread.join().map_err(|_| anyhow!("the prober has panicked"))??;
        Ok(self.notebook.report())
    }
}
