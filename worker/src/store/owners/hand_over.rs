//! Handing a slug or a repository's CI over to another project, by an operator and recorded. The server's own record of a
//! slug follows with the next script that acts for the new project: it's told whom the slug was taken from.

use serde_json::json;
use slipway_protocol::ProjectId;
use slipway_protocol::names::{RepositoryName, ServerHandle, Slug};
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::owners::domains::hand_over_domains;
use crate::store::{Result, Store};

/// What is handed over; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// A slug on a server.
    pub slug: Option<(Slug, ServerHandle)>,
    /// The CI secrets of a repository.
    pub repository: Option<RepositoryName>,
    /// The project that gets it.
    pub to: ProjectId,
    /// The project that has it by the server's own record, where Postgres doesn't know that.
    pub from: Option<ProjectId>,
}

/// What became of handing something over. Unless it's done, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOverOutcome {
    /// It's done; from these projects, without those that nobody had.
    Done(Vec<ProjectId>),
    /// It belonged to that project already.
    Already,
    /// It belongs to nobody: the first project that is deployed gets it.
    Nobodys,
    /// A deployment of the project that has it is running.
    Busy,
}

impl Store {
    /// Hands over what `hand_over` names, all of it or nothing.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn hand_over(&self, hand_over: &HandOver, operator: &Operator) -> Result<HandOverOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let (mut from, mut changed) = (Vec::new(), false);
            let HandOver { slug, repository, to, .. } = hand_over;
            let mut parts = Vec::new();
            if let Some((slug, server)) = slug {
                let outcome = hand_over_slug(&tx, slug, server, hand_over).await?;
                parts.push((format!("{slug} on {server}"), outcome));
            }
            if let Some(repository) = repository {
                let outcome = hand_over_repository(&tx, repository, *to).await?;
                parts.push((format!("CI of {repository}"), outcome));
            }
            for (subject, outcome) in parts {
                match outcome {
                    HandOverOutcome::Done(of) => {
                        let details = json!({ "from": of, "to": to });
                        record(&tx, OperatorAction::HandOver, &subject, operator, &details).await?;
                        from.extend(of);
                        changed = true;
                    }
                    HandOverOutcome::Already => {}
                    refused => return Ok(refused),
                }
            }
            if !changed {
                return Ok(HandOverOutcome::Already);
            }
            commit(tx, TransactionKind::Operate).await?;
            Ok(HandOverOutcome::Done(from))
        })
        .await
    }
}

/// Locks are taken in the order of a claim: the lease's row, then the slug's.
async fn hand_over_slug(
    tx: &StoreTransaction<'_>,
    slug: &Slug,
    server: &ServerHandle,
    hand_over: &HandOver,
) -> Result<HandOverOutcome> {
    let HandOver { to, from, .. } = hand_over;
    let key: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&server.as_str(), &slug.as_str()];
    tx.execute("SELECT 1 FROM project_leases WHERE server = $1 AND project_slug = $2 FOR UPDATE", &key).await?;
    let sql = "SELECT project_id, former FROM slug_owners WHERE server = $1 AND project_slug = $2 FOR UPDATE";
    let row = tx.query_opt(sql, &key).await?;
    // Asked again after both locks: the very first claim makes the lease's row.
    let held = "SELECT EXISTS (SELECT 1 FROM project_leases
                WHERE server = $1 AND project_slug = $2 AND expires_at > clock_timestamp())";
    if tx.query_one(held, &key).await?.get(0) {
        return Ok(HandOverOutcome::Busy);
    }
    let owner = row.as_ref().map(|row| ProjectId(row.get("project_id")));
    let known: Vec<Uuid> = row.as_ref().map(|row| row.get("former")).unwrap_or_default();
    let new: Vec<ProjectId> =
        owner.into_iter().chain(*from).filter(|old| old != to && !known.contains(&old.0)).collect();
    match owner {
        None if from.is_none() => return Ok(HandOverOutcome::Nobodys),
        Some(owner) if owner == *to && new.is_empty() => return Ok(HandOverOutcome::Already),
        _ => {}
    }
    let mut former: Vec<Uuid> = known.into_iter().chain(new.iter().map(|old| old.0)).collect();
    former.retain(|old| *old != to.0);
    former.sort_unstable();
    former.dedup();
    tx.execute(
        "INSERT INTO slug_owners AS o (server, project_slug, project_id, former) VALUES ($1, $2, $3, $4)
         ON CONFLICT (server, project_slug) DO UPDATE SET project_id = $3, former = $4, since = now(),
             proven = o.proven AND o.project_id = $3",
        &[&server.as_str(), &slug.as_str(), &to.0, &former],
    )
    .await?;
    hand_over_domains(tx, slug, server, *to).await?;
    // What is pushed to the branch of the project that had it is no business of this slug any more.
    let unwatch = "DELETE FROM watched_branches WHERE server = $1 AND project_slug = $2 AND project_id <> $3";
    tx.execute(unwatch, &[&server.as_str(), &slug.as_str(), &to.0]).await?;
    let mut from: Vec<ProjectId> = owner.into_iter().chain(*from).filter(|old| old != to).collect();
    from.dedup();
    Ok(HandOverOutcome::Done(from))
}

async fn hand_over_repository(
    tx: &StoreTransaction<'_>,
    repository: &RepositoryName,
    to: ProjectId,
) -> Result<HandOverOutcome> {
    let sql = "SELECT project_id FROM repository_owners WHERE repository = lower($1) FOR UPDATE";
    let Some(row) = tx.query_opt(sql, &[&repository.as_str()]).await? else { return Ok(HandOverOutcome::Nobodys) };
    let owner = ProjectId(row.get(0));
    if owner == to {
        return Ok(HandOverOutcome::Already);
    }
    let running = "SELECT EXISTS (SELECT 1 FROM deployments WHERE project_id = $1 AND state = 'running')";
    if tx.query_one(running, &[&owner.0]).await?.get(0) {
        return Ok(HandOverOutcome::Busy);
    }
    let sql = "UPDATE repository_owners SET project_id = $2, since = now() WHERE repository = lower($1)";
    tx.execute(sql, &[&repository.as_str(), &to.0]).await?;
    // What it holds from now on isn't what the one before has written; that one has nothing to delete there, either.
    tx.execute(
        "DELETE FROM github_digests WHERE project_id = $1 AND lower($2) = (
             SELECT lower(d.repository) FROM deployments d WHERE d.project_id = $1 AND d.request IS NOT NULL
             ORDER BY d.arrival DESC LIMIT 1)",
        &[&owner.0, &repository.as_str()],
    )
    .await?;
    Ok(HandOverOutcome::Done(vec![owner]))
}
