//! Claiming a slug and a repository for a project, in the transaction that accepts or claims its deployment. Whoever is
//! second is refused, and told who has it and how an operator hands it over.

use std::collections::BTreeMap;

use slipway_protocol::names::{RepositoryName, ServerHandle};
use slipway_protocol::{Action, DeploymentId, ErrorCode, Failure, Project, ProjectId, ProjectReady};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::head::DeploymentHead;
use crate::store::owners::domains::claim_domains;
use crate::store::{Result, Store};

/// What a project has for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnedBasis {
    /// The projects that its slug was handed over from: the server may still have it as one of theirs.
    pub former: Vec<ProjectId>,
    /// Why it doesn't get the CI of its repository, though it asks for that: another project has it.
    pub ci_taken: Option<String>,
}

/// Claims what `action` with this request needs: the slug, its domains, and the repository's CI where CI is to deploy. The
/// inner error: another project has the slug or a domain, and nothing may be done. Only what puts something on a server claims: whoever had a
/// slug once and stops what he believes to be there doesn't get it.
pub(in crate::store) async fn claim_owned(
    tx: &StoreTransaction<'_>,
    action: Action,
    project: &Project,
    server: &ServerHandle,
    request: &ProjectReady,
) -> Result<Result<OwnedBasis, Failure>> {
    let slug =
        if action.deploys() { claim_slug(tx, project, server).await? } else { slug_owner(tx, project, server).await? };
    let former = match slug {
        Some(SlugOwner { owner, .. }) if owner != project.id => return Ok(Err(slug_taken(project, server, owner))),
        Some(SlugOwner { former, .. }) => former,
        None => Vec::new(),
    };
    if action.deploys()
        && let Err(failure) = claim_domains(tx, project, server, request).await?
    {
        return Ok(Err(failure));
    }
    let mut ci_taken = None;
    if action.deploys() && request.repository.pushes_deployed_by.uses_ci() {
        let owner = claim_repository(tx, project.id, &request.repository.name).await?;
        if owner != project.id {
            ci_taken = Some(repository_taken(tx, project, &request.repository.name, owner).await?);
        }
    }
    Ok(Ok(OwnedBasis { former, ci_taken }))
}

impl Store {
    /// What a request to deploy would get for its project; or why it would be refused, since its slug is another project's.
    /// Nothing is claimed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn owned_basis(&self, request: &ProjectReady) -> Result<Result<OwnedBasis, Failure>> {
        deadline(async {
            let mut client = self.client().await?;
            // Rolled back when it's dropped.
            let tx = StoreTransaction::begin(&mut client).await?;
            match &request.server {
                Some(server) => claim_owned(&tx, Action::Deploy, &request.project, &server.handle, request).await,
                None => Ok(Ok(OwnedBasis::default())),
            }
        })
        .await
    }
}

/// Whose the slugs and the repositories' CI of some deployments are.
pub(in crate::store) struct KnownOwners(BTreeMap<DeploymentId, (SlugOwner, Option<ProjectId>)>);

impl KnownOwners {
    /// What the project of a deployment has for itself, if all that it needs is its own already.
    pub(in crate::store) fn own(
        &self,
        deployment: DeploymentId,
        project: ProjectId,
        action: Action,
        request: &ProjectReady,
    ) -> Option<OwnedBasis> {
        let (slug, ci) = self.0.get(&deployment)?;
        let needs_ci = action.deploys() && request.repository.pushes_deployed_by.uses_ci();
        let own = slug.owner == project && (!needs_ci || *ci == Some(project));
        own.then(|| OwnedBasis { former: slug.former.clone(), ci_taken: None })
    }
}

/// Whose the slugs of these deployments are. The rows stay locked: nobody is handed them meanwhile.
pub(in crate::store) async fn owners_of(
    tx: &StoreTransaction<'_>,
    deployments: &[(DeploymentHead, Row)],
) -> Result<KnownOwners> {
    let ids: Vec<Uuid> = deployments.iter().map(|(head, _)| head.id.0).collect();
    let sql = "SELECT d.id, o.project_id, o.former,
                   (SELECT r.project_id FROM repository_owners r WHERE r.repository = lower(d.repository)) AS ci
               FROM deployments d JOIN slug_owners o ON o.server = d.server AND o.project_slug = d.project_slug
               WHERE d.id = ANY($1) FOR SHARE OF o";
    let rows = tx.query(sql, &[&ids]).await?;
    let known = |row: &Row| {
        let ci = row.get::<_, Option<Uuid>>("ci").map(ProjectId);
        (DeploymentId(row.get("id")), (SlugOwner::read(row), ci))
    };
    Ok(KnownOwners(rows.iter().map(known).collect()))
}

struct SlugOwner {
    owner: ProjectId,
    former: Vec<ProjectId>,
}

impl SlugOwner {
    fn read(row: &Row) -> Self {
        let former: Vec<Uuid> = row.get("former");
        Self { owner: ProjectId(row.get("project_id")), former: former.into_iter().map(ProjectId).collect() }
    }
}

/// Who has the slug, after it was claimed for `project`. The row stays locked: nobody is handed it meanwhile.
async fn claim_slug(tx: &StoreTransaction<'_>, project: &Project, server: &ServerHandle) -> Result<Option<SlugOwner>> {
    let sql = "INSERT INTO slug_owners AS o (server, project_slug, project_id) VALUES ($1, $2, $3)
               ON CONFLICT (server, project_slug) DO UPDATE SET project_id = o.project_id RETURNING project_id, former";
    let row = tx.query_one(sql, &[&server.as_str(), &project.slug.as_str(), &project.id.0]).await?;
    Ok(Some(SlugOwner::read(&row)))
}

async fn slug_owner(tx: &StoreTransaction<'_>, project: &Project, server: &ServerHandle) -> Result<Option<SlugOwner>> {
    let sql = "SELECT project_id, former FROM slug_owners WHERE server = $1 AND project_slug = $2";
    let row = tx.query_opt(sql, &[&server.as_str(), &project.slug.as_str()]).await?;
    Ok(row.as_ref().map(SlugOwner::read))
}

/// Whose CI the repository is, after it was claimed for `project`. Who has nothing on any server has no use for it.
async fn claim_repository(
    tx: &StoreTransaction<'_>,
    project: ProjectId,
    repository: &RepositoryName,
) -> Result<ProjectId> {
    let sql = "INSERT INTO repository_owners AS o (repository, project_id) VALUES (lower($1), $2)
               ON CONFLICT (repository) DO UPDATE SET project_id = CASE
                   WHEN EXISTS (SELECT 1 FROM slug_owners s WHERE s.project_id = o.project_id) THEN o.project_id
                   ELSE $2 END
               RETURNING project_id";
    Ok(ProjectId(tx.query_one(sql, &[&repository.as_str(), &project.0]).await?.get(0)))
}

fn slug_taken(project: &Project, server: &ServerHandle, owner: ProjectId) -> Failure {
    let Project { id, slug } = project;
    let message = format!(
        "the slug {slug} on {server} belongs to project {owner}, and this request is project {id}'s; `slipway projects \
         hand-over {slug} --server {server} --to {id} --why TEXT` hands it over, with all that is there"
    );
    Failure::new(ErrorCode::SlugTaken, None, message)
}

async fn repository_taken(
    tx: &StoreTransaction<'_>,
    project: &Project,
    repository: &RepositoryName,
    owner: ProjectId,
) -> Result<String> {
    let sql = "SELECT coalesce(string_agg(project_slug || ' on ' || server, ', ' ORDER BY project_slug, server), '')
               FROM (SELECT project_slug, server FROM slug_owners WHERE project_id = $1 LIMIT 5) places";
    let places: String = tx.query_one(sql, &[&owner.0]).await?.get(0);
    let id = project.id;
    Ok(format!(
        "{}: CI of {repository} deploys project {owner} ({places}), and its secrets are that one's; `slipway projects hand-over \
         --repository {repository} --to {id} --why TEXT` gives them to project {id}",
        ErrorCode::RepositoryTaken
    ))
}
