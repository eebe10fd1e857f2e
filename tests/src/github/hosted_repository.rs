//! A repository as the stand-in keeps it, with its secrets, checks, deployments and workflow runs.
//!
//! Deliberately not here: GitHub's JSON of any of it, and who may see it; the endpoints decide that.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::SecretKey;
use crypto_box::aead::OsRng;
use jiff::Timestamp;
use serde_json::Value;

use super::error::ApiError;
use super::random::random;

/// A repository as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RepoRef {
    /// `/repositories/{id}`, where GitHub redirects to after a rename.
    Id(u64),
    Name(String, String),
}

/// A repository and what hangs on it.
pub(super) struct HostedRepository {
    pub id: u64,
    pub owner: String,
    pub name: String,
    pub private: bool,
    pub default_branch: String,
    pub archived: bool,
    pub key: SecretKey,
    pub key_id: String,
    pub secrets: BTreeMap<String, StoredSecret>,
    pub statuses: Vec<CommitStatus>,
    pub deployments: Vec<CreatedDeployment>,
    pub runs: Vec<HostedRun>,
}

impl HostedRepository {
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    pub(super) fn rotate_key(&mut self) {
        self.key = SecretKey::generate(&mut OsRng);
        // GitHub's are decimal numbers too large for 53 bits, written as strings.
        self.key_id = (u64::from_be_bytes(random()) >> 1).to_string();
    }

    pub(super) fn public_key_base64(&self) -> String {
        STANDARD.encode(self.key.public_key().as_bytes())
    }

    /// Nothing can be written to an archived repository.
    pub(super) fn ensure_writable(&self) -> Result<(), ApiError> {
        if self.archived {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "Repository was archived so is read-only."));
        }
        Ok(())
    }
}

/// A stored Actions secret.
pub(super) struct StoredSecret {
    pub value: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A deployment that was created through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedDeployment {
    /// GitHub's number of it.
    pub id: u64,
    /// The commit that the reference was then.
    pub sha: String,
    /// Branch, tag or commit as asked for.
    pub reference: String,
    /// `production` unless asked otherwise.
    pub environment: String,
    /// Empty unless given.
    pub description: String,
    /// As given; `{}` unless it was.
    pub payload: Value,
    /// By the stand-in's clock.
    pub created_at: Timestamp,
    /// Oldest first; GitHub lists them newest first.
    pub statuses: Vec<DeploymentStatus>,
}

/// One report on a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentStatus {
    /// GitHub's number of it.
    pub id: u64,
    /// One of GitHub's seven.
    pub state: String,
    /// Empty unless given.
    pub description: String,
    /// Empty unless given.
    pub log_url: String,
    /// Empty unless given.
    pub environment_url: String,
    /// By the stand-in's clock.
    pub created_at: Timestamp,
}

/// A check that reported on a commit.
#[derive(Debug, Clone)]
pub(super) struct CommitStatus {
    pub sha: String,
    pub context: String,
    pub state: String,
}

/// One run of a workflow.
#[derive(Debug, Clone)]
pub(super) struct HostedRun {
    pub id: u64,
    pub workflow: String,
    pub branch: String,
    pub sha: String,
    /// What started it: `push` or another event.
    pub event: String,
    /// None as long as it goes on.
    pub conclusion: Option<String>,
    /// Whether it waits for the rules of a protected environment.
    pub waiting: bool,
}
