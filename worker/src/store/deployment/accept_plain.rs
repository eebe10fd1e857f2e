//! Accepting many requests in one transaction: those that come to nothing but a new deployment. Which of them do is asked
//! of the database in one go and decided as pure code; any other goes its own way, see `accept`.

use jiff::Timestamp;
use slipway_protocol::{Action, EventType, ProgressKind, Request};
use tokio_postgres::Row;
use tokio_postgres::types::{Json, ToSql};
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::message::Incoming;
use crate::scheduler::{CLOCK_AHEAD, Order, PlainView, happened_at};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::outbox::event_sequence::told;
use crate::store::sources::rule;
use crate::store::{DeploymentSubject, Result, SourceRule, Store};

/// A request that may come to nothing but a new deployment.
#[derive(Debug, Clone)]
pub struct PlainRequest<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// The message that asked for it.
    pub incoming: &'a Incoming,
    /// Trace context of its intake.
    pub traceparent: Option<String>,
}

/// What the door needs to know of a request's project and server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorFacts {
    /// The slugs that the project has.
    pub slugs: Vec<String>,
    /// What its last accepted request was about.
    pub last: Option<DeploymentSubject>,
    /// The server's address and host key, if the inventory holds it.
    pub server: Option<(String, Option<String>)>,
}

/// One row for each request that may be plain, in their order. Its project's others are found by the index of their order,
/// and by that of the ones that haven't ended.
const FACTS: &str = "
    SELECT now() AS now,
        EXISTS (SELECT FROM deployments WHERE id = i.id) OR EXISTS (SELECT FROM ended_requests WHERE id = i.id) AS known,
        EXISTS (SELECT FROM cancellations WHERE deployment_id = i.id) AS cancelled,
        EXISTS (SELECT FROM dead_letters WHERE replayed_as = i.edited) AS edited,
        EXISTS (SELECT FROM watched_branches WHERE project_id = i.project_id) AS watched,
        EXISTS (SELECT FROM deployments WHERE project_id = i.project_id AND state IN ('pending', 'running')) AS open,
        newest.producer_sequence, newest.event_time, newest.arrival,
        (SELECT project_id FROM slug_owners WHERE server = i.server AND project_slug = i.slug) AS slug_owner,
        (SELECT project_id FROM repository_owners WHERE repository = lower(i.repository)) AS ci_owner,
        ARRAY(SELECT DISTINCT project_slug FROM slug_owners WHERE project_id = i.project_id) AS slugs,
        last.project_slug, last.repository, last.server, s.address, s.host_key
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY
        AS i (id, edited, project_id, slug, server, repository, place)
    LEFT JOIN servers s ON s.handle = i.server
    LEFT JOIN LATERAL (
        SELECT producer_sequence, coalesce(event_time, accepted_at) AS event_time, arrival FROM deployments d
        WHERE d.project_id = i.project_id AND d.request IS NOT NULL
        ORDER BY coalesce(producer_sequence, -1) DESC, coalesce(event_time, accepted_at) DESC, arrival DESC LIMIT 1
    ) newest ON true
    LEFT JOIN LATERAL (
        SELECT project_slug, repository, server FROM deployments d
        WHERE d.project_id = i.project_id AND d.request IS NOT NULL ORDER BY arrival DESC LIMIT 1
    ) last ON true
    ORDER BY i.place";

/// Inserts the requests with their first events and their owners; gives whether all is the projects' own. A slug or a
/// repository that somebody else claims at this moment is waited for.
const INSERT: &str = "
    WITH new AS (
        INSERT INTO deployments (id, source, event_id, project_id, project_slug, repository, commit_sha, server, request,
            correlation, body, content_type, headers, exchange, routing_key, producer_sequence, event_time, traceparent,
            amqp_user, state, action, next_sequence)
        SELECT id, source, event_id, project_id, slug, repository, commit_sha, server, request, correlation, body,
            content_type, headers, exchange, routing_key, sequence,
            CASE WHEN time <= now() + $27 * interval '1 second' THEN time ELSE now() END, traceparent, amqp_user,
            'pending', $20, 2
        FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
                $9::jsonb[], $10::jsonb[], $11::bytea[], $12::text[], $13::jsonb[], $14::text[], $15::text[],
                $16::bigint[], $17::timestamptz[], $18::text[], $19::text[]) WITH ORDINALITY
            AS i (id, source, event_id, project_id, slug, repository, commit_sha, server, request, correlation, body,
                content_type, headers, exchange, routing_key, sequence, time, traceparent, amqp_user, place)
        ORDER BY place RETURNING id),
    told AS (
        INSERT INTO outbox (deployment_id, sequence, events, type, told, must_route)
        SELECT id, 1, 1, $21, $22, false FROM new),
    slugs AS (
        INSERT INTO slug_owners AS o (server, project_slug, project_id)
        SELECT server, slug, project_id FROM unnest($8::text[], $5::text[], $4::uuid[], $23::bool[])
            AS i (server, slug, project_id, is_free) WHERE is_free ORDER BY server, slug
        ON CONFLICT (server, project_slug) DO UPDATE SET project_id = o.project_id
        RETURNING project_id),
    repositories AS (
        INSERT INTO repository_owners AS o (repository, project_id)
        SELECT lower(repository), project_id FROM unnest($6::text[], $4::uuid[], $24::bool[])
            AS i (repository, project_id, is_free) WHERE is_free ORDER BY 1
        ON CONFLICT (repository) DO UPDATE SET project_id = o.project_id
        RETURNING project_id)
    SELECT (SELECT coalesce(bool_and(project_id = ANY($4)), true) FROM slugs)
            AND (SELECT coalesce(bool_and(project_id = ANY($4)), true) FROM repositories) AS own,
        CASE WHEN $25::text IS NOT NULL THEN pg_notify($25, '') END, CASE WHEN $26::text IS NOT NULL THEN pg_notify($26, '') END";

impl Store {
    /// Accepts those of the requests that come to nothing but a new deployment and that `may_enter`; gives for each whether
    /// it was accepted. Of one project, slug and repository there is at most one among them.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn accept_plain(
        &self,
        requests: &[PlainRequest<'_>],
        may_enter: impl Fn(usize, &DoorFacts, &[SourceRule]) -> bool + Send + Sync,
    ) -> Result<Vec<bool>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            lock(&tx, requests).await?;
            let rules = tx.query("SELECT * FROM source_rules WHERE revoked_at IS NULL ORDER BY id", &[]).await?;
            let rules = rules.iter().map(rule).collect::<Result<Vec<_>>>()?;
            let (mut accepted, mut owners) = (vec![false; requests.len()], Vec::new());
            for (at, (plain, row)) in requests.iter().zip(facts(&tx, requests).await?).enumerate() {
                let data = &plain.request.event.data;
                let slug_is_free = row.get::<_, Option<Uuid>>("slug_owner").is_none();
                let uses_ci = data.repository.pushes_deployed_by.uses_ci();
                let repository_is_free = uses_ci && row.get::<_, Option<Uuid>>("ci_owner").is_none();
                if view(plain, &row).is_plain() && may_enter(at, &door_facts(&row), &rules) {
                    accepted[at] = true;
                    owners.push((slug_is_free, repository_is_free));
                }
            }
            let new: Vec<&PlainRequest<'_>> =
                requests.iter().zip(&accepted).filter(|(_, accepted)| **accepted).map(|(plain, _)| plain).collect();
            if new.is_empty() {
                return Ok(accepted);
            }
            if !insert(&tx, &new, &owners).await? {
                return Ok(vec![false; requests.len()]);
            }
            commit(tx, TransactionKind::Accept).await?;
            Ok(accepted)
        })
        .await
    }
}

/// Waits for whoever else stores a request for one of the projects, or cancels one of these; always in the same order.
async fn lock(tx: &StoreTransaction<'_>, requests: &[PlainRequest<'_>]) -> Result<()> {
    let projects: Vec<String> = requests.iter().map(|plain| plain.request.event.data.project.id.to_string()).collect();
    let deployments: Vec<String> = requests.iter().map(|plain| plain.request.deployment_id().to_string()).collect();
    let sql = "SELECT pg_advisory_xact_lock(key) FROM (
                   SELECT 0 AS kind, hashtextextended(project, 0) AS key FROM unnest($1::text[]) AS p (project)
                   UNION ALL SELECT 1, hashtextextended(deployment, 1) FROM unnest($2::text[]) AS d (deployment)
                   ORDER BY kind, key) keys";
    tx.query(sql, &[&projects, &deployments]).await?;
    Ok(())
}

async fn facts(tx: &StoreTransaction<'_>, requests: &[PlainRequest<'_>]) -> Result<Vec<Row>> {
    let of = |value: fn(&Request) -> &str| -> Vec<&str> { requests.iter().map(|plain| value(plain.request)).collect() };
    let ids: Vec<Uuid> = requests.iter().map(|plain| plain.request.deployment_id().0).collect();
    let edited: Vec<Option<Uuid>> = requests.iter().map(|plain| plain.request.event.id.parse().ok()).collect();
    let projects: Vec<Uuid> = requests.iter().map(|plain| plain.request.event.data.project.id.0).collect();
    let slugs = of(|request| request.event.data.project.slug.as_str());
    let servers = of(server);
    let repositories = of(|request| request.event.data.repository.name.as_str());
    Ok(tx.query(FACTS, &[&ids, &edited, &projects, &slugs, &servers, &repositories]).await?)
}

/// The server of a request that names one, as all have that get here.
fn server(request: &Request) -> &str {
    request.event.data.server.as_ref().map_or("", |server| server.handle.as_str())
}

fn view(plain: &PlainRequest<'_>, row: &Row) -> PlainView {
    let data = &plain.request.event.data;
    let (project, now) = (data.project.id.0, row.get::<_, Timestamp>("now"));
    let newest = row.get::<_, Option<i64>>("arrival").map(|arrival| Order {
        sequence: row.get::<_, Option<i64>>("producer_sequence").and_then(|s| u64::try_from(s).ok()),
        time: row.get("event_time"),
        arrival,
    });
    let is_foreign = |column: &str| row.get::<_, Option<Uuid>>(column).is_some_and(|owner| owner != project);
    PlainView {
        seen_before: row.get("known"),
        replayed: plain.request.replay.is_some() || row.get("edited"),
        cancelled: row.get("cancelled"),
        watched: row.get("watched") || data.repository.pushes_deployed_by.watches(),
        others_open: row.get("open"),
        has_domains: data.domains().next().is_some(),
        has_no_server: data.server.is_none(),
        order: Order { sequence: data.sequence, time: happened_at(plain.request.event.time, now), arrival: i64::MAX },
        newest,
        owned_by_others: is_foreign("slug_owner")
            || (data.repository.pushes_deployed_by.uses_ci() && is_foreign("ci_owner")),
    }
}

fn door_facts(row: &Row) -> DoorFacts {
    let last = row.get::<_, Option<String>>("project_slug").map(|slug| DeploymentSubject {
        project: Some(slug),
        repository: row.get("repository"),
        server: row.get("server"),
    });
    let server = row.get::<_, Option<String>>("address").map(|address| (address, row.get("host_key")));
    DoorFacts { slugs: row.get("slugs"), last, server }
}

async fn insert(tx: &StoreTransaction<'_>, new: &[&PlainRequest<'_>], owners: &[(bool, bool)]) -> Result<bool> {
    let text = |value: fn(&Request) -> &str| -> Vec<&str> { new.iter().map(|plain| value(plain.request)).collect() };
    let of_message = |value: fn(&Incoming) -> Option<&str>| -> Vec<Option<&str>> {
        new.iter().map(|plain| value(plain.incoming)).collect()
    };
    let events = new.iter().map(|plain| readable("deployments", "request", serde_json::to_value(&plain.request.event)));
    let accepted = ProgressKind::Accepted { unbound_secrets: Vec::new() };
    let sequence = |plain: &&PlainRequest<'_>| {
        plain.request.event.data.sequence.map(|sequence| i64::try_from(sequence).unwrap_or(i64::MAX))
    };
    let others = new.iter().filter_map(|_| tx.others_to_wake()).last();
    let (slugs_free, repositories_free): (Vec<bool>, Vec<bool>) = owners.iter().copied().unzip();
    let values: [&(dyn ToSql + Sync); 27] = [
        &new.iter().map(|plain| plain.request.deployment_id().0).collect::<Vec<_>>(),
        &text(|request| &request.event.source),
        &text(|request| &request.event.id),
        &new.iter().map(|plain| plain.request.event.data.project.id.0).collect::<Vec<_>>(),
        &text(|request| request.event.data.project.slug.as_str()),
        &text(|request| request.event.data.repository.name.as_str()),
        &text(|request| request.event.data.repository.commit.as_str()),
        &text(server),
        &events.collect::<Result<Vec<_>>>()?,
        &new.iter().map(|plain| Json(&plain.request.event.data.correlation)).collect::<Vec<_>>(),
        &new.iter().map(|plain| plain.incoming.body.as_slice()).collect::<Vec<_>>(),
        &of_message(|message| message.content_type.as_deref()),
        &new.iter().map(|plain| Json(&plain.incoming.headers)).collect::<Vec<_>>(),
        &of_message(|message| Some(&message.exchange)),
        &of_message(|message| Some(&message.routing_key)),
        &new.iter().map(sequence).collect::<Vec<_>>(),
        &new.iter().map(|plain| plain.request.event.time).collect::<Vec<_>>(),
        &new.iter().map(|plain| plain.traceparent.as_deref()).collect::<Vec<_>>(),
        &of_message(|message| message.user.as_deref()),
        &Action::Deploy.as_str(),
        &EventType::Progress.as_str(),
        &told(&accepted)?,
        &slugs_free,
        &repositories_free,
        &tx.relay_to_wake(),
        &others,
        &CLOCK_AHEAD.as_secs_f64(),
    ];
    Ok(tx.query_one(INSERT, &values).await?.get("own"))
}
