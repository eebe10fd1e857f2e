//! Projects that are nowhere: what nobody can go back to, start or push to again. Their sealed secrets and journals go in their
//! time, however new they are of their kind, and what is known of such a project goes with its last deployment.

use uuid::Uuid;

use crate::store::Result;
use crate::store::connection::client::StoreClient;
use crate::store::connection::transaction::{StoreTransaction, commit_many};
use crate::store::retention::removal::remove;

/// Whether the project of deployment `d` is at no place of which this holds, has nothing under way, and gets no pushes. With
/// `OFFSET 0` rows are looked up for each project, in place of all that there are once.
macro_rules! is_nowhere {
    ($is_there:literal) => {
        concat!(
            "(NOT EXISTS (SELECT FROM project_places p WHERE p.project_id = d.project_id AND ",
            $is_there,
            " OFFSET 0)
              AND NOT EXISTS (SELECT FROM deployments o
                  WHERE o.project_id = d.project_id AND o.state IN ('pending', 'running') OFFSET 0)
              AND NOT EXISTS (SELECT FROM watched_branches w WHERE w.project_id = d.project_id OFFSET 0))"
        )
    };
}

/// Whether the project of deployment `d` is nowhere as commands see that: one whose deployments have all failed may be moved, or
/// deployed again, with what they brought.
pub(super) const IS_NOWHERE: &str = is_nowhere!("greatest(p.begun, p.succeeded) > coalesce(p.undeployed, 0)");

/// Whether no server was touched for it that it wasn't taken off, or that wasn't handed over since; and it has nothing that is its
/// own, such as a slug whose volumes were kept, and wasn't heard of for `$9` seconds.
pub(super) const IS_FORGOTTEN: &str = concat!(
    is_nowhere!(
        "greatest(p.touched, p.succeeded) > coalesce(p.undeployed, 0)
         AND NOT coalesce(p.begun_at <= p.lost_at, false)"
    ),
    " AND coalesce((SELECT l.finished_at FROM deployments l WHERE l.project_id = d.project_id
                        ORDER BY l.arrival DESC LIMIT 1) < now() - $9::float8 * interval '1 second', false)
      AND NOT EXISTS (SELECT FROM slug_owners s WHERE s.project_id = d.project_id OFFSET 0)
      AND NOT EXISTS (SELECT FROM repository_owners r WHERE r.project_id = d.project_id OFFSET 0)"
);

/// Those that nobody stores a request for just now, until the transaction's end, and that have no dead letter which may be
/// replayed, or restored for that: whether it may is decided by what came after it.
const LOCK: &str = "
    SELECT p.id FROM unnest($1::uuid[]) p (id) WHERE pg_try_advisory_xact_lock(hashtextextended(p.id::text, 0))
        AND NOT EXISTS (
            SELECT FROM (SELECT o.id FROM deployments o WHERE o.project_id = p.id OFFSET 0) o,
                LATERAL (SELECT FROM dead_letters l WHERE l.deployment_id = o.id AND l.state <> 'replayed' OFFSET 0) l OFFSET 0)";

const FORGET: &str = "
    WITH gone AS (
        SELECT p.id FROM unnest($1::uuid[]) p (id)
        WHERE NOT EXISTS (SELECT FROM deployments d WHERE d.project_id = p.id)),
    places AS (DELETE FROM project_places WHERE project_id IN (SELECT id FROM gone)),
    repositories AS (DELETE FROM project_repositories WHERE project_id IN (SELECT id FROM gone))
    DELETE FROM unbound_projects WHERE project_id IN (SELECT id FROM gone)";

/// Removes deployments of forgotten projects, given with their projects; and with a project's last one, where it was. Gives the number.
pub(super) async fn forget(client: &mut StoreClient, deployments: &[(Uuid, Uuid)]) -> Result<u64> {
    let mut projects: Vec<Uuid> = deployments.iter().map(|(_, project)| *project).collect();
    projects.dedup();
    let tx = StoreTransaction::begin(client).await?;
    let locked: Vec<Uuid> = tx.query(LOCK, &[&projects]).await?.iter().map(|row| row.get(0)).collect();
    let theirs = deployments.iter().filter(|(_, project)| locked.contains(project));
    let ids: Vec<Uuid> = theirs.map(|(id, _)| *id).collect();
    let removed = tx.execute(&remove(), &[&ids]).await?;
    tx.execute(FORGET, &[&locked]).await?;
    commit_many(tx, &[]).await?;
    Ok(removed)
}
