//! Actions secrets of a repository: only those whose value changed are sealed and written.
//!
//! Deliberately not here: which secrets a project gets.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use reqwest::Method;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::json;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::RepositoryName;
use tokio_util::sync::CancellationToken;

use super::GithubClient;
use super::public_keys::PublicKey;
use super::token::TokenScope;
use crate::StageError;
use crate::secrets::seal;

/// GitHub's limit for a value, 48 KB by its documentation, by either meaning of KB, and with what a sealed box adds.
pub(crate) const MAX_VALUE_BYTES: usize = 48_000;
/// How many secrets a repository has at most.
const MAX_SECRETS: usize = 100;

/// Within so many seconds one deployment writes its secrets.
const WRITTEN_TOGETHER: i64 = 60;

/// What [`GithubClient::put_secrets`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsWritten {
    /// Names of the secrets that were written.
    pub changed: Vec<String>,
    /// How many had their value already.
    pub unchanged: usize,
}

#[derive(Deserialize)]
struct PublicKeyAnswer {
    key_id: String,
    key: String,
}

#[derive(Deserialize)]
struct SecretsAnswer {
    secrets: Vec<SecretAnswer>,
}

#[derive(Deserialize)]
struct SecretAnswer {
    name: String,
    updated_at: Option<Timestamp>,
}

impl GithubClient {
    /// Writes those of the `desired` secrets whose keyed digest isn't in `digests`.
    ///
    /// `digests` always holds what GitHub is known to hold: it's brought up to date with every write, so it is to be
    /// kept whatever becomes of this call, an error, a cancellation and a dropped future included. A secret whose
    /// write may or may not have arrived isn't in it. Names that aren't desired stay as they are.
    ///
    /// # Errors
    /// `github-refused` when a name or value is one that GitHub doesn't take (before anything is written), GitHub's
    /// own errors, and `deadline-exceeded` when `cancel` came first.
    pub async fn put_secrets(
        &self,
        repository: &RepositoryName,
        desired: &BTreeMap<String, SecretString>,
        digests: &mut BTreeMap<String, String>,
        cancel: &CancellationToken,
    ) -> Result<SecretsWritten, StageError> {
        for (name, value) in desired {
            check(name, value)?;
        }
        cancel.run_until_cancelled(self.put_changed(repository, desired, digests)).await.unwrap_or_else(|| {
            let message = format!("stopped while writing the GitHub secrets of {repository}");
            Err(StageError::new(ErrorCode::DeadlineExceeded, message))
        })
    }

    /// Deletes those of the secrets `names` that the repository has; gives their names.
    ///
    /// # Errors
    /// GitHub's own errors, and `deadline-exceeded` when `cancel` came first.
    pub(crate) async fn delete_secrets(
        &self,
        repository: &RepositoryName,
        names: &BTreeSet<String>,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, StageError> {
        cancel.run_until_cancelled(self.delete_present(repository, names)).await.unwrap_or_else(|| {
            let message = format!("stopped while deleting the GitHub secrets of {repository}");
            Err(StageError::new(ErrorCode::DeadlineExceeded, message))
        })
    }

    async fn delete_present(
        &self,
        repository: &RepositoryName,
        names: &BTreeSet<String>,
    ) -> Result<Vec<String>, StageError> {
        let present = self.list_secrets(repository).await?;
        let mut deleted = Vec::new();
        for SecretAnswer { name, .. } in present.into_iter().filter(|s| names.contains(&s.name)) {
            let doing = format!("delete the secret {name} of {repository}");
            let path = format!("/repos/{repository}/actions/secrets/{name}");
            let _writing = self.shared.writing.lock().await;
            self.ask(repository, TokenScope::Secrets, Method::DELETE, &path, None, &doing).await?;
            deleted.push(name);
        }
        Ok(deleted)
    }

    /// Those of the secrets `names` that were last written within a minute after `before` was: by the same deployment, and
    /// by nobody since.
    ///
    /// # Errors
    /// GitHub's own errors, and `deadline-exceeded` when `cancel` came first.
    pub(crate) async fn find_secrets_written_after(
        &self,
        repository: &RepositoryName,
        before: &str,
        names: &BTreeSet<String>,
        cancel: &CancellationToken,
    ) -> Result<BTreeSet<String>, StageError> {
        let present = cancel.run_until_cancelled(self.list_secrets(repository)).await.unwrap_or_else(|| {
            let message = format!("stopped while listing the GitHub secrets of {repository}");
            Err(StageError::new(ErrorCode::DeadlineExceeded, message))
        })?;
        let time = |secret: &SecretAnswer| secret.updated_at.map(Timestamp::as_second);
        let Some(begin) = present.iter().find(|s| s.name == before).and_then(time) else { return Ok(BTreeSet::new()) };
        let soon = |s: &SecretAnswer| time(s).is_some_and(|at| (begin..=begin + WRITTEN_TOGETHER).contains(&at));
        Ok(present.into_iter().filter(|s| names.contains(&s.name) && soon(s)).map(|s| s.name).collect())
    }

    async fn list_secrets(&self, repository: &RepositoryName) -> Result<Vec<SecretAnswer>, StageError> {
        let doing = format!("list the secrets of {repository}");
        // A repository has 100 secrets at most: one page.
        let path = format!("/repos/{repository}/actions/secrets?per_page=100");
        let answer = self.ask(repository, TokenScope::Secrets, Method::GET, &path, None, &doing).await?;
        Ok(answer.read::<SecretsAnswer>(&doing)?.secrets)
    }

    /// Names of the `desired` secrets that [`GithubClient::put_secrets`] would write.
    #[must_use]
    pub fn find_differing_secrets(
        &self,
        repository: &RepositoryName,
        desired: &BTreeMap<String, SecretString>,
        digests: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let differs = |(name, value): &(&String, &SecretString)| {
            digests.get(*name) != Some(&self.digest(repository, name, value))
        };
        desired.iter().filter(differs).map(|(name, _)| name.clone()).collect()
    }

    /// What GitHub is known to hold once [`GithubClient::put_secrets`] has written all of the `desired` secrets.
    pub(crate) fn digests_after(
        &self,
        repository: &RepositoryName,
        desired: &BTreeMap<String, SecretString>,
        digests: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut digests = digests.clone();
        digests.extend(desired.iter().map(|(name, value)| (name.clone(), self.digest(repository, name, value))));
        digests
    }

    async fn put_changed(
        &self,
        repository: &RepositoryName,
        desired: &BTreeMap<String, SecretString>,
        digests: &mut BTreeMap<String, String>,
    ) -> Result<SecretsWritten, StageError> {
        let mut written = SecretsWritten { changed: Vec::new(), unchanged: 0 };
        let mut key = None;
        let mut refreshed = false;
        for (name, value) in desired {
            let digest = self.digest(repository, name, value);
            if digests.get(name) == Some(&digest) {
                written.unchanged += 1;
                continue;
            }
            // From here on nobody knows what GitHub holds, until it says so.
            digests.remove(name);
            let current = match key.take() {
                Some(key) => key,
                None => match self.shared.keys.take(repository) {
                    Some(key) => key,
                    None => self.public_key(repository).await?,
                },
            };
            key = Some(match self.put(repository, name, value, &current).await {
                Ok(()) => current,
                // GitHub doesn't say which of the two is wrong, the key or the box: a key that changed meanwhile is
                // worth one more try.
                Err(error) if error.code == ErrorCode::GithubRefused && !std::mem::replace(&mut refreshed, true) => {
                    let fresh = self.public_key(repository).await?;
                    if fresh.id == current.id {
                        return Err(self.explain_refusal(repository, name, error).await);
                    }
                    match self.put(repository, name, value, &fresh).await {
                        Ok(()) => fresh,
                        Err(error) => return Err(self.explain_refusal(repository, name, error).await),
                    }
                }
                Err(error) => return Err(self.explain_refusal(repository, name, error).await),
            });
            digests.insert(name.clone(), digest);
            written.changed.push(name.clone());
        }
        Ok(written)
    }

    /// Reads the key that secrets of a repository are sealed to, while something else is waited for: the next
    /// [`GithubClient::put_secrets`] needn't ask for it. One that has changed by then is found out there.
    pub async fn read_key_ahead(&self, repository: &RepositoryName) {
        if let Ok(key) = self.public_key(repository).await {
            self.shared.keys.keep(repository.clone(), key);
        }
    }

    async fn public_key(&self, repository: &RepositoryName) -> Result<PublicKey, StageError> {
        let doing = format!("read the key that secrets of {repository} are sealed to");
        let path = format!("/repos/{repository}/actions/secrets/public-key");
        let answer = self.ask(repository, TokenScope::Secrets, Method::GET, &path, None, &doing).await?;
        let PublicKeyAnswer { key_id: id, key } = answer.read(&doing)?;
        // Not base64 is caught where a key of the wrong length is: when sealing.
        Ok(PublicKey { id, bytes: STANDARD.decode(key).unwrap_or_default() })
    }

    async fn put(
        &self,
        repository: &RepositoryName,
        name: &str,
        value: &SecretString,
        key: &PublicKey,
    ) -> Result<(), StageError> {
        let sealed = seal::seal(&key.bytes, value).map_err(|error| {
            let message = format!("GitHub's key for the secrets of {repository} is {error}; nothing was sealed to it");
            StageError::new(ErrorCode::GithubUnavailable, message)
        })?;
        let body = json!({ "encrypted_value": sealed, "key_id": key.id });
        let doing = format!("write the secret {name} of {repository}");
        let path = format!("/repos/{repository}/actions/secrets/{name}");
        let _writing = self.shared.writing.lock().await;
        self.ask(repository, TokenScope::Secrets, Method::PUT, &path, Some(&body), &doing).await.map(drop)
    }

    /// GitHub's words for it aren't documented, so its list decides whether there is room for another secret.
    async fn explain_refusal(&self, repository: &RepositoryName, name: &str, error: StageError) -> StageError {
        if error.code != ErrorCode::GithubRefused {
            return error;
        }
        match self.list_secrets(repository).await {
            Ok(present) if present.len() >= MAX_SECRETS && present.iter().all(|secret| secret.name != name) => {
                let message =
                    format!("{repository} has {} Actions secrets already, and {name} isn't one of them", present.len());
                StageError { code: ErrorCode::GithubSecretsFull, message, ..error }
            }
            _ => error,
        }
    }

    /// HMAC-SHA-256 over repository, name and value, each preceded by its length.
    fn digest(&self, repository: &RepositoryName, name: &str, value: &SecretString) -> String {
        let mut hmac = hmac::Context::with_key(&self.shared.digest_key);
        for part in [repository.as_str(), name, value.expose_secret()] {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part.as_bytes());
        }
        STANDARD.encode(hmac.sign())
    }
}

/// GitHub's rules for secrets; the name becomes part of a path. GitHub keeps names in capitals, so ours are.
fn check(name: &str, value: &SecretString) -> Result<(), StageError> {
    let shaped = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if !shaped || name.len() > 100 || name.starts_with("GITHUB_") {
        let message = "a GitHub secret's name must match ^[A-Z_][A-Z0-9_]{0,99}$ and not begin with GITHUB_";
        return Err(StageError::new(ErrorCode::GithubRefused, message));
    }
    if value.expose_secret().len() > MAX_VALUE_BYTES {
        let message = format!("the GitHub secret {name} is larger than GitHub's 48 KB");
        return Err(StageError::new(ErrorCode::GithubRefused, message));
    }
    Ok(())
}
