//! Collects what the pipeline needs for a claimed deployment: its server, its opened secrets, and what the database
//! remembers of earlier deployments.

use std::collections::BTreeMap;

use slipway_deploy::{Departure, DeploymentWork, EarlierRequests, HostKeyPolicy, LeaseGuard, StageError, Target};
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, MoveData, ProjectReady, Server};

use super::Runner;
use super::persist::persist;
use crate::store::{Claim, ClaimBasis, MoveOrder, OwnedBasis, ServerRecord, StoreError};

/// What the pipeline is given.
pub(super) struct PreparedWork {
    pub work: DeploymentWork,
    /// The server as it enters the inventory when its key is learned.
    pub server: ServerRecord,
    /// Why no stage can be run with it. Restoring the previous release needs no more than what is here.
    pub refused: Option<StageError>,
}

/// Collects what the pipeline is given. The outer error is the database's, the inner one the deployment's.
pub(super) async fn prepare(
    runner: &Runner,
    claim: &Claim,
    lease_guard: LeaseGuard,
) -> Result<Result<PreparedWork, StageError>, StoreError> {
    let request = &claim.event.data;
    let basis = match &claim.basis {
        Some(basis) => basis.clone(),
        None => ClaimBasis {
            server: persist(|| runner.store.server(&claim.lease.server)).await?,
            github_digests: persist(|| runner.store.github_digests(request.project.id, &claim.lease.server)).await?,
            allowances: persist(|| runner.store.allowances(&claim.lease.server, &request.project)).await?,
        },
    };
    let ClaimBasis { server: known, github_digests: digests, allowances } = basis;
    let may_delete_secrets = claim.action == Action::Undeploy
        || !request.repository.pushes_deployed_by.uses_ci()
        || (request.registry.is_none() && digests.keys().any(|name| name.starts_with("REGISTRY_")));
    let shares_repository = may_delete_secrets
        && persist(|| runner.store.shares_repository(request.project.id, &claim.lease.server)).await?;
    let (mut images, mut earlier) = (BTreeMap::new(), EarlierRequests::default());
    if matches!(claim.action, Action::Rollback | Action::Move) {
        images = persist(|| runner.store.recorded_images(claim.lease.deployment)).await?;
    }
    let former = match &claim.moves {
        Some(order) => Some(former_server(runner, claim, order).await?),
        None => None,
    };
    if claim.action == Action::Rollback {
        earlier = persist(|| runner.store.earlier_requests(&request.project, &claim.lease.server)).await?;
    }
    let assemble = || -> Result<PreparedWork, StageError> {
        let (deployment, server) = (claim.lease.deployment, target_server(claim));
        let work = runner.credentials.assemble_work(deployment, request, &server, known, digests, lease_guard)?;
        let server = inventory_record(&work.target);
        // Whoever only stops a project must not need the key that its secrets were sealed to years ago.
        let (secrets, refused) = match runner.credentials.open_secrets(request) {
            Ok(opened) => (opened.values, None),
            Err(error) => (BTreeMap::new(), Some(error).filter(|_| claim.action.deploys())),
        };
        // Only who deploys pulls.
        let (registry, unusable) = match runner.credentials.choose_registry(request) {
            Ok(registry) => (registry, None),
            Err(error) => (None, Some(error).filter(|_| claim.action.deploys())),
        };
        let moving = match &former {
            Some(FormerServer { request, server, known, github_digests, data }) => {
                let mut target = runner.credentials.resolve_target(server, known.clone())?;
                // It was deployed to: its key is known, and one that's learned would be noted as the other server's.
                if target.host_key == HostKeyPolicy::TrustOnFirstUse {
                    target.host_key = HostKeyPolicy::Refuse;
                }
                let (request, github_digests) = (request.clone(), github_digests.clone());
                Some(Departure { target, request, data: *data, github_digests })
            }
            None => None,
        };
        let refused = refused.or(unusable);
        let (action, remove_volumes) = (claim.action, claim.remove_volumes);
        let OwnedBasis { former: former_owners, ci_taken } = claim.owned.clone();
        let work = DeploymentWork {
            action,
            remove_volumes,
            moving,
            shares_repository,
            allowances,
            former_owners,
            ci_taken,
            secrets,
            registry,
            images,
            earlier,
            ..work
        };
        Ok(PreparedWork { work, server, refused })
    };
    Ok(assemble())
}

/// What is known of the server that a project is moved away from.
struct FormerServer {
    request: ProjectReady,
    server: Server,
    known: Option<ServerRecord>,
    github_digests: BTreeMap<String, String>,
    data: MoveData,
}

async fn former_server(runner: &Runner, claim: &Claim, order: &MoveOrder) -> Result<FormerServer, StoreError> {
    let (store, project) = (&runner.store, claim.event.data.project.id);
    let mut request = claim.event.data.clone();
    // But for its place, what acts is what is there.
    if let Some(version) = persist(|| store.moved_version(claim.lease.deployment)).await? {
        (request.server, request.allocations) = (version.server, version.allocations);
    }
    let described = request.server.clone().filter(|server| server.handle == order.from);
    Ok(FormerServer {
        request,
        server: described.unwrap_or_else(|| named_server(order.from.clone())),
        known: persist(|| store.server(&order.from)).await?,
        github_digests: persist(|| store.github_digests(project, &order.from)).await?,
        data: order.data,
    })
}

/// The server as the request describes it; by its name alone where it was chosen.
fn target_server(claim: &Claim) -> Server {
    claim.event.data.server.clone().unwrap_or_else(|| named_server(claim.lease.server.clone()))
}

fn named_server(handle: ServerHandle) -> Server {
    Server { handle, address: None, ssh_port: None, ssh_user: None, host_key: None }
}

fn inventory_record(target: &Target) -> ServerRecord {
    ServerRecord {
        handle: target.handle.clone(),
        address: target.address.clone(),
        ssh_port: target.ssh_port,
        ssh_user: target.ssh_user.clone(),
        host_key: None,
        trust_on_first_use: false,
        ssh_key_enc: None,
        notes: None,
        front_door: None,
    }
}
