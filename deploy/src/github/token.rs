//! Installation tokens that still work, by repository and scope; one mint at a time for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::RepositoryName;

use crate::StageError;

/// A token that ends sooner than this isn't handed out any more: a fetch takes its time.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// What a token may do; each may do one thing, since the first kind goes to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum TokenScope {
    Contents,
    Secrets,
    Deployments,
    Actions,
}

impl TokenScope {
    pub(super) fn permission(self) -> (&'static str, &'static str) {
        match self {
            Self::Contents => ("contents", "read"),
            Self::Secrets => ("secrets", "write"),
            Self::Deployments => ("deployments", "write"),
            Self::Actions => ("actions", "read"),
        }
    }
}

/// A token and its end.
pub(super) struct IssuedToken {
    pub token: SecretString,
    pub expires_at: Timestamp,
}

impl IssuedToken {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.expires_at.duration_since(now) > MARGIN
    }
}

type Key = (RepositoryName, TokenScope);
type Slot = Arc<tokio::sync::Mutex<Option<IssuedToken>>>;

#[derive(Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<Key, Slot>>,
}

impl Tokens {
    /// The token at hand, or a fresh one; other callers wait meanwhile for that one. `now`: by GitHub's clock.
    pub(super) async fn get_or_mint<F>(
        &self,
        repository: &RepositoryName,
        scope: TokenScope,
        now: Timestamp,
        mint: impl FnOnce() -> F,
    ) -> Result<SecretString, StageError>
    where
        F: Future<Output = Result<IssuedToken, StageError>>,
    {
        let slot = self.slot(repository, scope, now);
        let mut held = slot.lock().await;
        if let Some(minted) = held.as_ref().filter(|minted| minted.is_fresh(now)) {
            return Ok(minted.token.clone());
        }
        *held = None;
        let minted = mint().await?;
        let token = minted.token.clone();
        *held = Some(minted);
        Ok(token)
    }

    /// Drops all of them: the credential that they were minted with counts no more.
    pub(super) fn forget_all(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Drops `token`, unless it has been replaced already.
    pub(super) async fn forget(&self, repository: &RepositoryName, scope: TokenScope, token: &SecretString) {
        let known =
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&(repository.clone(), scope)).cloned();
        let Some(slot) = known else { return };
        let mut held = slot.lock().await;
        if held.as_ref().is_some_and(|held| held.token.expose_secret() == token.expose_secret()) {
            *held = None;
        }
    }

    /// Drops what has ended as well, so that a worker that has seen many projects doesn't remember them all.
    fn slot(&self, repository: &RepositoryName, scope: TokenScope, now: Timestamp) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| {
            let unused = Arc::strong_count(slot) == 1;
            !unused || slot.try_lock().is_ok_and(|held| held.as_ref().is_some_and(|token| token.is_fresh(now)))
        });
        Arc::clone(slots.entry((repository.clone(), scope)).or_default())
    }
}
