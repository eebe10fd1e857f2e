//! Tokens that were handed out.
//!
//! Deliberately not here: who may have one, and whether it still works; see `apps` and `caller`.

use std::collections::BTreeSet;

use super::permissions::Permissions;

/// The kinds of token, told apart by their prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `ghs_`, of the installation with this id.
    Installation(u64),
    /// `ghp_`
    Classic,
    /// `github_pat_`
    FineGrained,
}

/// A token that was handed out. The secret itself is its key in the state.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub kind: TokenKind,
    /// Whose requests are counted together; the installation or the user.
    pub account: u64,
    /// `None`: every repository its owner can reach.
    pub repositories: Option<BTreeSet<u64>>,
    /// Of a classic token: none.
    pub permissions: Permissions,
    /// Of a classic token only.
    pub scopes: Vec<String>,
    /// Unix seconds.
    pub expires_at: Option<i64>,
}
