//! What a test reads from the stand-in.
//!
//! Deliberately not here: assertions.

use std::collections::BTreeMap;

use super::GitHub;
use super::hosted_repository::{CreatedDeployment, HostedRepository};
use super::state::{GitRequest, KeptExchange, RestRequest, SecretWrite};

/// Methods that take `owner/name` panic on a repository that was never added: that is a mistake in the test.
impl GitHub {
    /// The Actions secrets of a repository, opened with its key.
    #[must_use]
    pub fn secrets(&self, full_name: &str) -> BTreeMap<String, String> {
        self.read(full_name, |repository| {
            repository.secrets.iter().map(|(name, secret)| (name.clone(), secret.value.clone())).collect()
        })
    }

    /// The deployments of a repository, oldest first.
    #[must_use]
    pub fn deployments(&self, full_name: &str) -> Vec<CreatedDeployment> {
        self.read(full_name, |repository| repository.deployments.clone())
    }

    /// Every write of a secret that was accepted, oldest first.
    #[must_use]
    pub fn secret_writes(&self) -> Vec<SecretWrite> {
        self.shared.state().secret_writes.clone()
    }

    /// Every request to the API, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RestRequest> {
        self.shared.state().requests.clone()
    }

    /// Has every request kept from now on, with its answer.
    pub fn keep_exchanges(&self) {
        self.shared.state().exchanges.get_or_insert_default();
    }

    /// What was kept since [`GitHub::keep_exchanges`], oldest first.
    #[must_use]
    pub fn exchanges(&self) -> Vec<KeptExchange> {
        self.shared.state().exchanges.clone().unwrap_or_default()
    }

    /// Every request to the git server, oldest first.
    #[must_use]
    pub fn git_requests(&self) -> Vec<GitRequest> {
        self.shared.state().git_requests.clone()
    }

    /// How many installation tokens were handed out.
    #[must_use]
    pub fn tokens_minted(&self) -> usize {
        self.shared.state().tokens_minted.len()
    }

    /// Every installation token that was handed out, oldest first: what a test then looks for where it mustn't be.
    #[must_use]
    pub fn installation_tokens(&self) -> Vec<String> {
        self.shared.state().tokens_minted.clone()
    }

    fn read<T>(&self, full_name: &str, read: impl FnOnce(&HostedRepository) -> T) -> T {
        let state = self.shared.state();
        let Some(repository) = state.by_full_name(full_name) else {
            panic!("the test added no repository {full_name}")
        };
        read(repository)
    }
}
