//! The deployment of a pushed commit: the project's newest request with that commit in place of its own, stored as if
//! somebody had sent it.

use jiff::Timestamp;
use serde_json::Value;
use slipway_protocol::names::CommitSha;
use slipway_protocol::{Action, CONTENT_TYPE, DeploymentId, EventType, PushDeployer, decode, topology};
use tokio_postgres::Row;

use crate::message::Incoming;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::readable;
use crate::store::deployment::superseding::Admission;
use crate::store::{Result, Store};

const TABLE: &str = "deployments";
/// The newest place first, column by column as the index has them: a project may have thousands of deployments.
const NEWEST_FIRST: &str = "ORDER BY coalesce(d.producer_sequence, -1) DESC, coalesce(d.event_time, d.accepted_at) DESC, \
     d.arrival DESC LIMIT 1";
/// The states of what came to nothing: of a command, nothing stays then, and what served before serves again.
const FAILED: &str = "('failed', 'missing_secret')";
/// The requests of project `$1` on server `$2` that weren't called off.
const STANDING: &str = "FROM deployments d WHERE d.project_id = $1 AND d.server = $2 AND d.request IS NOT NULL \
     AND d.state NOT IN ('cancelled', 'superseded')";

/// A watched branch's place, and the number that its next deployment gets.
pub(super) struct PushTarget {
    pub project: uuid::Uuid,
    pub server: String,
    pub deployed_by: PushDeployer,
    pub number: String,
}

/// The request that a push is deployed with.
pub(super) struct PushBasis {
    pub commit: CommitSha,
    request: Value,
    now: Timestamp,
}

impl PushTarget {
    /// The newest request to deploy, or to roll back unless that failed, without what belonged to its own event.
    pub(super) async fn basis(&self, tx: &StoreTransaction<'_>) -> Result<Option<PushBasis>> {
        let sql = format!(
            "SELECT d.commit_sha, now() AS now,
                 d.request #- '{{data,sequence}}' #- '{{data,expires_at}}' #- '{{data,correlation}}' AS request
             {STANDING} AND (d.action = 'deploy' OR (d.action IN ('rollback', 'move') AND d.state NOT IN {FAILED})) {NEWEST_FIRST}"
        );
        let Some(row) = tx.query_opt(&sql, &[&self.project, &self.server]).await? else { return Ok(None) };
        let commit = row.get::<_, Option<String>>("commit_sha").unwrap_or_default();
        let commit = readable(TABLE, "commit_sha", CommitSha::new(commit))?;
        Ok(Some(PushBasis { commit, request: row.get("request"), now: row.get("now") }))
    }

    /// What the newest request asks for, of those to deploy and the commands that didn't fail, and whether it has ended.
    pub(super) async fn last_action(&self, tx: &StoreTransaction<'_>) -> Result<Option<(Action, bool)>> {
        let sql = format!(
            "SELECT d.action, d.state NOT IN ('pending', 'running') AS ended
             {STANDING} AND (d.action = 'deploy' OR d.state NOT IN {FAILED}) {NEWEST_FIRST}"
        );
        let row = tx.query_opt(&sql, &[&self.project, &self.server]).await?;
        let read = |row: Row| Ok((readable(TABLE, "action", row.get::<_, &str>("action").parse())?, row.get("ended")));
        row.map(read).transpose()
    }

    /// Whether a version was deployed with success since the project was last taken off the server.
    pub(super) async fn has_succeeded(&self, tx: &StoreTransaction<'_>) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT FROM project_places
                       WHERE project_id = $1 AND server = $2 AND succeeded > coalesce(undeployed, 0))";
        Ok(tx.query_one(sql, &[&self.project, &self.server]).await?.get(0))
    }
}

impl Store {
    /// Stores the deployment of `commit`.
    pub(super) async fn insert_push(
        &self,
        tx: &StoreTransaction<'_>,
        target: &PushTarget,
        basis: &PushBasis,
        commit: &CommitSha,
    ) -> Result<(DeploymentId, Admission)> {
        let incoming = message(target, basis, commit)?;
        let request = readable(TABLE, "request", decode(&incoming.body, &incoming.metadata()))?;
        let admission = self.insert_request(tx, &request, &incoming, &[]).await?;
        Ok((request.deployment_id(), admission))
    }
}

/// The message with which an orchestrator would ask for it. A dead letter of it can be replayed like any other.
fn message(target: &PushTarget, basis: &PushBasis, commit: &CommitSha) -> Result<Incoming> {
    let mut event = basis.request.clone();
    let own = ["traceparent", "tracestate", "causationid", "sequence"];
    if let Some(attributes) = event.as_object_mut() {
        attributes.retain(|name, _| !own.contains(&name.as_str()));
    }
    let repository = event["data"]["repository"]["name"].as_str().unwrap_or_default();
    event["source"] = format!("/slipway/pushes/{repository}").into();
    event["id"] = format!("{commit}-{}", target.number).into();
    event["time"] = basis.now.to_string().into();
    event["data"]["repository"]["commit"] = commit.as_str().into();
    event["data"]["repository"]["pushes_deployed_by"] = target.deployed_by.as_str().into();
    Ok(Incoming {
        body: readable(TABLE, "request", serde_json::to_vec(&event))?,
        content_type: Some(CONTENT_TYPE.to_owned()),
        exchange: topology::REQUESTS.to_owned(),
        routing_key: EventType::ProjectReady.as_str().to_owned(),
        ..Incoming::default()
    })
}
