//! Which deployments a list shows, page by page. What has ended is read by the indexes of `connection/indexes.rs`, state by
//! state, and as many of each as the page has: however many there are, and however few of them match.

use slipway_protocol::DeploymentId;
use tokio_postgres::types::ToSql;

use crate::store::deployment::state::State;

/// Which deployments to list; all conditions must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeploymentFilter {
    /// In this state; absent: in any, as with the conditions below.
    pub state: Option<State>,
    /// Of this project's slug.
    pub project: Option<String>,
    /// On the server with this handle.
    pub server: Option<String>,
    /// Accepted before this deployment: the last one of the page before.
    pub before: Option<DeploymentId>,
}

const ALL: &str = "ORDER BY accepted_at DESC, arrival DESC LIMIT $1";
/// Of those that match a condition.
const LATEST_FIRST: &str = "ORDER BY arrival DESC LIMIT $1";

impl DeploymentFilter {
    /// The statement that selects `columns` of those that match, the latest first, at most `limit`; and its values.
    pub(in crate::store) fn statement<'v>(
        &'v self,
        columns: &str,
        limit: &'v i64,
    ) -> (String, Vec<&'v (dyn ToSql + Sync)>) {
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![limit];
        let (mut conditions, mut place) = (String::new(), String::new());
        // What the index is asked for that has what has ended, beside its last column.
        let mut of_index = "state = s.state".to_owned();
        let mut until = i64::MAX.to_string();
        if let Some(before) = &self.before {
            values.push(&before.0);
            let of = |column: &str| format!("(SELECT {column} FROM deployments WHERE id = ${})", values.len());
            conditions = match self.selects_all() {
                true => format!(" AND (accepted_at, arrival) < ({}, {})", of("accepted_at"), of("arrival")),
                false => format!(" AND arrival < {}", of("arrival")),
            };
            until = of("arrival");
        }
        let mut of_server = String::new();
        if let Some(server) = &self.server {
            values.push(server);
            let server = values.len();
            of_server = format!(" AND server = ${server}");
            of_index = format!("server = ${server} AND state = s.state");
        }
        conditions += &of_server;
        if let Some(slug) = &self.project {
            values.push(slug);
            let slug = values.len();
            place = format!(
                "CROSS JOIN (SELECT DISTINCT server FROM project_places WHERE project_slug = ${slug}{of_server}) place"
            );
            conditions += &format!(
                " AND project_slug = ${slug}
                 AND project_id IN (SELECT project_id FROM project_places WHERE project_slug = ${slug})"
            );
            of_index = format!("project_slug = ${slug} AND coalesce(server, '') = place.server AND state = s.state");
        }
        if self.selects_all() {
            return (format!("SELECT {columns} FROM deployments WHERE true{conditions} {ALL}"), values);
        }
        let states = |ended: bool| {
            let wanted = |state: &State| state.is_terminal() == ended && self.state.is_none_or(|only| only == *state);
            State::ALL.into_iter().filter(wanted).map(State::as_str).collect::<Vec<_>>().join(",")
        };
        let (open, ended) = (states(false), states(true));
        // A limit that PostgreSQL doesn't know is taken for a tenth of what matches, so that reading in the index's order
        // always pays. Where statistics say, however wrong, that fewer match than a known one, all would be read and sorted.
        let sql = format!(
            "WITH open AS MATERIALIZED (
                 SELECT id, arrival FROM deployments
                 WHERE state IN ('pending', 'running') AND state = ANY ('{{{open}}}'::text[]){conditions} {LATEST_FIRST}),
             ended AS (
                 SELECT one.* FROM unnest('{{{ended}}}'::text[]) AS s (state) {place} CROSS JOIN LATERAL (
                     SELECT id, arrival FROM deployments
                     WHERE state NOT IN ('pending', 'running') AND {of_index} AND arrival < {until}
                     ORDER BY arrival DESC LIMIT (SELECT $1::bigint)) one),
             page AS (SELECT * FROM open UNION ALL SELECT * FROM ended {LATEST_FIRST})
             SELECT {columns} FROM page JOIN deployments USING (id, arrival) {LATEST_FIRST}"
        );
        (sql, values)
    }

    fn selects_all(&self) -> bool {
        self.state.is_none() && self.project.is_none() && self.server.is_none()
    }
}
