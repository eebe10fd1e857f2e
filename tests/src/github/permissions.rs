//! The permissions of apps and tokens, and how much of one an endpoint needs.
//!
//! Deliberately not here: who has which; see `tokens` and `state`.

use std::collections::BTreeMap;

/// How far a permission goes; writing includes reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// `read`
    Read,
    /// `write`
    Write,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::Read),
            "write" => Some(Self::Write),
            _ => None,
        }
    }
}

/// By GitHub's name of the permission, such as `contents`.
pub(super) type Permissions = BTreeMap<String, Level>;

pub(super) fn permissions(given: &[(&str, Level)]) -> Permissions {
    let mut permissions: Permissions = given.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect();
    // Comes with every other permission and can't be declined.
    permissions.entry("metadata".to_owned()).or_insert(Level::Read);
    permissions
}

/// A permission and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    pub permission: &'static str,
    pub level: Level,
}
