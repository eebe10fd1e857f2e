//! What repositories' secrets are sealed to, as far as it was read ahead.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use slipway_protocol::names::RepositoryName;

/// A repository's public key.
pub(super) struct PublicKey {
    pub(super) id: String,
    pub(super) bytes: Vec<u8>,
}

/// One for each repository that was asked about and not yet written to.
#[derive(Default)]
pub(super) struct PublicKeys(Mutex<BTreeMap<RepositoryName, PublicKey>>);

impl PublicKeys {
    pub(super) fn keep(&self, repository: RepositoryName, key: PublicKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(repository, key);
    }

    pub(super) fn take(&self, repository: &RepositoryName) -> Option<PublicKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(repository)
    }
}
