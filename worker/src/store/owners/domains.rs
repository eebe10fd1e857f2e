//! Whose a domain is: one project's, from the request that names it until no release and no request of that project has it
//! any more. Where the domain leads isn't asked here.

use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{ErrorCode, Failure, Project, ProjectId, ProjectReady};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::locked::LockedDeployment;

/// Claims the domains of a request for its project. The inner error: another project has one of them, and nothing may be
/// done. What is its own already isn't locked, so that many deployments can be claimed together.
pub(in crate::store) async fn claim_domains(
    tx: &StoreTransaction<'_>,
    project: &Project,
    server: &ServerHandle,
    request: &ProjectReady,
) -> Result<Result<(), Failure>> {
    let domains: Vec<&str> = request.domains().map(|(_, domain)| domain.as_str()).collect();
    if domains.is_empty() {
        return Ok(Ok(()));
    }
    let sql = "SELECT domain, project_id, project_slug, server FROM domains WHERE domain = ANY($1) ORDER BY domain";
    let known = tx.query(sql, &[&domains]).await?;
    if let Some(taken) = taken_of(&known, project) {
        return Ok(Err(taken));
    }
    let here = |row: &Row| {
        row.get::<_, &str>("project_slug") == project.slug.as_str() && row.get::<_, &str>("server") == server.as_str()
    };
    if known.len() == domains.len() && known.iter().all(here) {
        return Ok(Ok(()));
    }
    // In one order, so that nobody waits for each other.
    let sql = "INSERT INTO domains AS o (domain, project_id, project_slug, server)
               SELECT domain, $2, $3, $4 FROM unnest($1::text[]) AS d (domain) ORDER BY domain
               ON CONFLICT (domain) DO UPDATE SET
                   project_slug = CASE WHEN o.project_id = $2 THEN excluded.project_slug ELSE o.project_slug END,
                   server = CASE WHEN o.project_id = $2 THEN excluded.server ELSE o.server END
               RETURNING domain, project_id, project_slug, server";
    let claimed = tx.query(sql, &[&domains, &project.id.0, &project.slug.as_str(), &server.as_str()]).await?;
    Ok(taken_of(&claimed, project).map_or(Ok(()), Err))
}

/// Why these domains aren't all the project's, if another one has some.
fn taken_of(rows: &[Row], project: &Project) -> Option<Failure> {
    let taken = rows.iter().find(|row| row.get::<_, Uuid>("project_id") != project.id.0)?;
    let text = |column: &str| taken.get::<_, &str>(column);
    let (domain, slug, server, owner) =
        (text("domain"), text("project_slug"), text("server"), ProjectId(taken.get("project_id")));
    let message = format!(
        "the domain {domain} belongs to project {owner} ({slug} on {server}), and this request is project {}'s; it's free once \
         that project is deployed without it or undeployed",
        project.id
    );
    Some(Failure::new(ErrorCode::DomainTaken, None, message))
}

impl LockedDeployment<'_> {
    /// After the end of this deployment: gives up what neither the last good release of the project, anywhere, nor any
    /// request that hasn't ended is to be served under. What an unproven release may still have stays.
    pub(in crate::store) async fn settle_domains(&self) -> Result<()> {
        let Some(project) = &self.head.project else { return Ok(()) };
        let sql = "WITH mine AS MATERIALIZED (
                       SELECT domain FROM domains WHERE project_id = $1 ORDER BY domain FOR UPDATE),
                   kept AS MATERIALIZED (
                       SELECT d.project_slug, d.server, d.arrival, d.request
                       FROM project_places p JOIN deployments d
                           ON d.project_id = p.project_id AND d.arrival = p.succeeded
                       WHERE p.project_id = $1 AND p.succeeded > coalesce(p.undeployed, 0)
                       UNION ALL
                       SELECT project_slug, server, arrival, request FROM deployments
                       WHERE project_id = $1 AND state IN ('pending', 'running') AND action IN ('deploy', 'rollback', 'move')),
                   wanted AS MATERIALIZED (
                       SELECT DISTINCT ON (domain) domain, k.project_slug, k.server
                       FROM kept k CROSS JOIN LATERAL jsonb_array_elements(k.request #> '{data,allocations}') a (allocation)
                       CROSS JOIN LATERAL jsonb_array_elements_text(a.allocation -> 'domains') w (domain)
                       ORDER BY domain, k.arrival DESC),
                   given_up AS (
                       DELETE FROM domains o USING mine
                       WHERE o.domain = mine.domain AND NOT EXISTS (SELECT FROM wanted w WHERE w.domain = o.domain)
                         AND NOT EXISTS (SELECT FROM project_leases l
                             WHERE l.project_slug = o.project_slug AND l.server = o.server AND l.unsettled))
                   UPDATE domains o SET project_slug = w.project_slug, server = w.server
                   FROM mine, wanted w WHERE o.domain = mine.domain AND w.domain = mine.domain
                     AND (o.project_slug, o.server) <> (w.project_slug, w.server)";
        self.tx.execute(sql, &[&project.id.0]).await?;
        Ok(())
    }
}

/// The domains that are served at a place go to the project that gets it.
pub(in crate::store) async fn hand_over_domains(
    tx: &StoreTransaction<'_>,
    slug: &Slug,
    server: &ServerHandle,
    to: ProjectId,
) -> Result<()> {
    let sql = "UPDATE domains SET project_id = $3, since = now()
               WHERE server = $1 AND project_slug = $2 AND project_id <> $3";
    tx.execute(sql, &[&server.as_str(), &slug.as_str(), &to.0]).await?;
    Ok(())
}
