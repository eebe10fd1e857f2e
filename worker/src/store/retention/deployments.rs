//! Pruning deployments: a walk over those that have ended, one kind after the other: those of one project, slug and server
//! that asked for the same and ended alike. The newest of each kind stay, and so everything that asks for "the latest
//! that …" gets the same answer as before, unless their project is nowhere (`projects.rs`). What is too young ends the walk of
//! its kind.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::seconds;
use crate::store::deployment::versions::VERSIONS;
use crate::store::retention::projects::{IS_FORGOTTEN, IS_NOWHERE, forget};
use crate::store::retention::removal::{JOURNAL, SECRETS, remove, remove_journals, take_out_secrets};
use crate::store::retention::settings::Retention;
use crate::store::{Result, Store};

/// What makes a kind, and the place in it: the columns of the index `deployments_by_kind`.
const KIND: [&str; 5] = [
    "coalesce(d.project_id, '00000000-0000-0000-0000-000000000000')",
    "coalesce(d.server, '')",
    "coalesce(d.project_slug, '')",
    "d.action",
    "(CASE WHEN d.request IS NULL THEN '?' WHEN d.started_at IS NULL THEN '-' ELSE '+' END || d.state)",
];

/// A place in the walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalkPosition {
    project: Uuid,
    server: String,
    slug: String,
    action: String,
    end: String,
    arrival: i64,
}

impl Default for WalkPosition {
    fn default() -> Self {
        let text = String::new;
        Self { project: Uuid::nil(), server: text(), slug: text(), action: text(), end: text(), arrival: i64::MIN }
    }
}

impl WalkPosition {
    fn of(row: &Row) -> Self {
        Self {
            project: row.get("k0"),
            server: row.get("k1"),
            slug: row.get("k2"),
            action: row.get("k3"),
            end: row.get("k4"),
            arrival: row.get("arrival"),
        }
    }

    fn is_kind_of(&self, other: &Self) -> bool {
        let kind = |p: &Self| (p.project, p.server.clone(), p.slug.clone(), p.action.clone(), p.end.clone());
        kind(self) == kind(other)
    }
}

/// What a step of the walk has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkStep {
    /// How many deployments were changed or removed.
    pub changed: u64,
    /// Where it goes on; `None` at the end.
    pub next: Option<WalkPosition>,
}

/// What is to become of the deployments of a page.
#[derive(Default)]
struct Due {
    secrets: Vec<Uuid>,
    journal: Vec<Uuid>,
    whole: Vec<Uuid>,
    /// With their projects.
    forgotten: Vec<(Uuid, Uuid)>,
}

impl Store {
    /// One step of the walk, over at most `limit` deployments after `from`.
    ///
    /// # Errors
    /// When the database fails. What was changed by then stays changed, and the next pass finds the rest.
    pub async fn prune_deployments(&self, keep: &Retention, from: &WalkPosition, limit: u32) -> Result<WalkStep> {
        deadline(async {
            let mut client = self.client().await?;
            let WalkPosition { project, server, slug, action, end, arrival } = from;
            let (rows, age, silence) = (i64::from(limit), seconds(keep.secrets), seconds(keep.deployments));
            let from: [&(dyn ToSql + Sync); 9] = [project, server, slug, action, end, arrival, &rows, &age, &silence];
            let rows = client.query(&page(keep), &from).await?;
            let (due, next) = sort(&rows, keep, limit);
            let mut changed = 0;
            if !due.secrets.is_empty() {
                changed += client.execute(&take_out_secrets(), &[&due.secrets]).await?;
            }
            if !due.journal.is_empty() {
                changed += client.execute(&remove_journals(), &[&due.journal]).await?;
            }
            if !due.whole.is_empty() {
                changed += client.execute(&remove(), &[&due.whole]).await?;
            }
            if !due.forgotten.is_empty() {
                changed += forget(&mut client, &due.forgotten).await?;
            }
            Ok(WalkStep { changed, next })
        })
        .await
    }
}

/// The deployments after a place, with how old each is and whether enough newer ones of its kind are there.
fn page(keep: &Retention) -> String {
    let columns = KIND.iter().enumerate().map(|(n, kind)| format!("{kind} AS k{n}")).collect::<Vec<_>>().join(", ");
    let kind = KIND.join(", ");
    let own = KIND.map(|kind| format!("{} = {kind}", kind.replace("d.", "n."))).join(" AND ");
    let versions = keep.versions.max(VERSIONS);
    let [project, server, slug, ..] = KIND.map(|kind| format!("{} = {kind}", kind.replace("d.", "u.")));
    let undeployed = KIND[4].replace("d.", "u.");
    format!(
        "SELECT d.id, {columns}, d.arrival, d.pruned, extract(epoch FROM now() - d.finished_at)::float8 AS age,
             EXISTS (SELECT FROM deployments n WHERE n.finished_at IS NOT NULL AND {own} AND n.arrival > d.arrival
                 ORDER BY n.arrival OFFSET CASE WHEN d.state = 'succeeded' AND d.action IN ('deploy', 'rollback', 'move')
                     AND d.request IS NOT NULL AND d.started_at IS NOT NULL THEN {versions} - 1 ELSE 0 END LIMIT 1) AS surplus,
             EXISTS (SELECT FROM deployments u WHERE u.finished_at IS NOT NULL AND {project} AND {server} AND {slug}
                 AND u.action = 'undeploy' AND {undeployed} IN ('+succeeded', '+already_deployed')
                 AND u.arrival > d.arrival AND u.finished_at < now() - $8 * interval '1 second') AS gone,
             {IS_NOWHERE} AS nowhere, {IS_FORGOTTEN} AS forgotten
         FROM deployments d WHERE d.finished_at IS NOT NULL
             AND ({kind}, d.arrival) > ($1::uuid, $2::text, $3::text, $4::text, $5::text, $6::bigint)
         ORDER BY {kind}, d.arrival LIMIT $7"
    )
}

/// What is due of a page, and where the walk goes on: what is too young is followed by younger ones of its kind.
fn sort(rows: &[Row], keep: &Retention, limit: u32) -> (Due, Option<WalkPosition>) {
    let mut due = Due::default();
    let mut young: Option<WalkPosition> = None;
    for row in rows {
        let place = WalkPosition::of(row);
        if young.as_ref().is_some_and(|young| young.is_kind_of(&place)) {
            continue;
        }
        let age = Duration::try_from_secs_f64(row.get::<_, f64>("age")).unwrap_or_default();
        if age < keep.secrets.min(keep.journal).min(keep.deployments) {
            young = Some(place);
            continue;
        }
        let (id, pruned): (Uuid, i16) = (row.get("id"), row.get("pruned"));
        let (surplus, gone, nowhere): (bool, bool, bool) = (row.get("surplus"), row.get("gone"), row.get("nowhere"));
        // Nobody goes back to a command, or acts with what it acted with.
        let is_version = ["deploy", "rollback", "move"].contains(&place.action.as_str());
        if surplus && age >= keep.deployments {
            due.whole.push(id);
        } else if age >= keep.deployments && row.get("forgotten") {
            due.forgotten.push((id, place.project));
        } else if (surplus || nowhere) && age >= keep.journal && pruned & JOURNAL == 0 {
            due.journal.push(id);
        }
        if (surplus || gone || nowhere || !is_version) && age >= keep.secrets && pruned & SECRETS == 0 {
            due.secrets.push(id);
        }
    }
    let whole = usize::try_from(limit).is_ok_and(|limit| rows.len() < limit);
    let next = rows.last().filter(|_| !whole).map(WalkPosition::of).map(|last| match young {
        Some(young) if young.is_kind_of(&last) => WalkPosition { arrival: i64::MAX, ..last },
        _ => last,
    });
    (due, next)
}
