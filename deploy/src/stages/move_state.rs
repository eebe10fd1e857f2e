//! What a move knows, and the work of its other side. What it does is in `moving`.

use std::collections::BTreeMap;

use slipway_protocol::VolumeName;

use crate::DeploymentWork;

/// What a move knows of the server that it takes the project away from.
#[derive(Debug, Default)]
pub(crate) struct MoveState {
    /// The project's volumes that have a name.
    pub(super) volumes: Vec<VolumeName>,
    /// What they take of the disk, in KiB.
    pub(super) size_kb: u64,
    /// Where volumes without a name hold something, as `service:path`.
    pub(super) unnamed: Vec<String>,
    /// Its `.env`, and the names of those that came as secrets.
    pub(super) env: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    /// Since when its services don't run there for the sake of this move, in milliseconds by that server's clock; 0 while they do.
    pub(super) since: u64,
    /// Whether somebody had stopped the project before.
    pub(super) was_stopped: bool,
    /// Whether GitHub's secrets may lead to the new server already.
    pub(super) wrote_secrets: bool,
    /// What GitHub holds again, after the move was taken back.
    pub(super) former_digests: Option<BTreeMap<String, String>>,
}

/// The work of the attempt that acts on the server which a move takes the project away from.
pub(crate) fn former_work(work: &DeploymentWork) -> Option<DeploymentWork> {
    let departure = work.moving.clone()?;
    Some(DeploymentWork {
        request: departure.request,
        target: departure.target,
        github_digests: departure.github_digests,
        moving: None,
        // What is at GitHub belongs to the project wherever it is.
        shares_repository: true,
        ..work.clone()
    })
}
