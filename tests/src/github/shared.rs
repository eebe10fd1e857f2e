//! The state behind its one lock, and what else both servers and the test need.
//!
//! Deliberately not here: what is known and how it changes; see `state`.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::state::GithubState;

/// What both servers and the test's own thread share.
pub(super) struct SharedGithub {
    state: Mutex<GithubState>,
    pub git_root: PathBuf,
    pub scheme: &'static str,
}

impl SharedGithub {
    pub(super) fn new(state: GithubState, git_root: PathBuf, scheme: &'static str) -> Self {
        Self { state: Mutex::new(state), git_root, scheme }
    }

    /// A test that panicked while steering has failed already; the servers go on for its clean-up.
    pub(super) fn state(&self) -> MutexGuard<'_, GithubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
