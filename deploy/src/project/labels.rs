//! What an override file says of itself, in the labels that containers get by it.

use slipway_protocol::DeploymentId;
use slipway_protocol::names::CommitSha;

pub(super) const COMMIT_LABEL: &str = "slipway.commit";
pub(super) const DEPLOYMENT_LABEL: &str = "slipway.deployment";
/// On any service that mounts files of the commit.
pub(super) const FILES_LABEL: &str = "slipway.files";

/// The deployment that an override file was written by. A deployment that changes nothing keeps that label, or else
/// it would recreate every container for the label's sake.
#[must_use]
pub fn deployment_of(text: &str) -> Option<DeploymentId> {
    label(text, DEPLOYMENT_LABEL)
}

/// The commit that an override file was written for.
#[must_use]
pub fn commit_of(text: &str) -> Option<CommitSha> {
    label(text, COMMIT_LABEL)
}

fn label<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(": "))?;
    line.trim_matches('"').parse().ok()
}
