//! The versions of a project: what was deployed on a server with success, the latest first. They are what a command
//! acts with and what a rollback goes back to.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_deploy::EarlierRequests;
use slipway_protocol::names::{CommitSha, ServerHandle};
use slipway_protocol::{Action, DeploymentId, Project, Stage, Version};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::connection::client::Statements;
use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::deployment::places::UNDEPLOYED;
use crate::store::{Result, Store};

/// How many versions of a project are offered for a rollback, unless the workers' setting says otherwise.
pub const VERSIONS: u32 = 10;

/// A deployment with success, as something to go back to.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedVersion {
    /// The deployment that made it.
    pub deployment: DeploymentId,
    /// How it came about: deployed, or rolled back to.
    pub action: Action,
    /// The commit that it deploys.
    pub commit: CommitSha,
    /// When it was reached.
    pub finished_at: Option<Timestamp>,
    /// All that decides what is deployed.
    pub(in crate::store) content: serde_json::Value,
}

/// What makes a request another version than another: all but its number, its time, its opaque ids, who deploys pushes
/// and what images are read with.
pub(in crate::store) const VERSION_CONTENT: &str =
    "((request -> 'data') - 'sequence' - 'expires_at' - 'correlation' - 'registry'
     #- '{repository,pushes_deployed_by}')";

impl Store {
    /// The versions of a project on a server since it was last taken off it, the latest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn versions(&self, project: &Project, server: &ServerHandle, limit: u32) -> Result<Vec<RecordedVersion>> {
        deadline(async {
            let client = self.client().await?;
            versions(&client, project, server, limit).await
        })
        .await
    }

    /// The digests of the images that the version ran which this deployment acts with, by variable. Without those that the
    /// registry didn't give then.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recorded_images(&self, acting: DeploymentId) -> Result<BTreeMap<String, String>> {
        self.images_where("(SELECT acts_on FROM deployments WHERE id = $1)", acting).await
    }

    /// As [`Store::recorded_images`], of the version that this deployment made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn images_of_version(&self, version: DeploymentId) -> Result<BTreeMap<String, String>> {
        self.images_where("$1", version).await
    }

    async fn images_where(&self, deployment: &str, id: DeploymentId) -> Result<BTreeMap<String, String>> {
        deadline(async {
            let sql = format!(
                "SELECT i.key, i.value FROM jsonb_each_text((
                     SELECT j.facts -> 'images' FROM stage_journal j
                     WHERE j.deployment_id = {deployment} AND j.stage = $2 AND j.outcome = 'done'
                       AND jsonb_typeof(j.facts -> 'images') = 'object'
                     ORDER BY j.fence DESC LIMIT 1)) i"
            );
            let rows = self.client().await?.query(&sql, &[&id.0, &Stage::Env.as_str()]).await?;
            Ok(rows.iter().map(|row| (row.get("key"), row.get("value"))).collect())
        })
        .await
    }

    /// What the requests of the last [`VERSIONS`] versions gave, with the names of secrets alone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn earlier_requests(&self, project: &Project, server: &ServerHandle) -> Result<EarlierRequests> {
        let versions = self.versions(project, server, VERSIONS).await?;
        let entries = |part: &'static str| versions.iter().filter_map(move |v| v.content[part].as_object()).flatten();
        let plain = |(name, value): (&String, &serde_json::Value)| Some((name.clone(), value.as_str()?.to_owned()));
        Ok(EarlierRequests {
            variables: entries("variables").filter_map(plain).collect(),
            secrets: entries("secrets").map(|(name, _)| name.clone()).collect(),
        })
    }
}

/// As [`Store::versions`], wherever it's asked.
pub(in crate::store) async fn versions(
    client: &impl Statements,
    project: &Project,
    server: &ServerHandle,
    limit: u32,
) -> Result<Vec<RecordedVersion>> {
    // A limit that PostgreSQL doesn't know, as in `selection.rs`: never are all of them read and sorted.
    let sql = format!(
        "SELECT id, action, commit_sha, finished_at, {VERSION_CONTENT} AS content FROM deployments d
         WHERE project_id = $1 AND project_slug = $2 AND server = $3
           AND state = 'succeeded' AND action IN ('deploy', 'rollback', 'move') AND arrival > {UNDEPLOYED} AND pruned = 0
         ORDER BY arrival DESC LIMIT (SELECT $4::bigint)"
    );
    let rows = client.rows(&sql, &[&project.id.0, &project.slug.as_str(), &server.as_str(), &i64::from(limit)]).await?;
    rows.iter().map(recorded).collect()
}

fn recorded(row: &Row) -> Result<RecordedVersion> {
    const TABLE: &str = "deployments";
    Ok(RecordedVersion {
        deployment: DeploymentId(row.get::<_, Uuid>("id")),
        action: readable(TABLE, "action", row.get::<_, &str>("action").parse())?,
        commit: readable(TABLE, "commit_sha", CommitSha::new(row.get::<_, String>("commit_sha")))?,
        finished_at: row.get("finished_at"),
        content: row.get("content"),
    })
}

/// The version that a rollback means. Without `to` that is the latest one that differs from `present`: what is being
/// deployed right now, or else what was deployed last.
pub(in crate::store) fn choose_version<'v>(
    to: Option<&Version>,
    versions: &'v [RecordedVersion],
    present: Option<&serde_json::Value>,
) -> Option<&'v RecordedVersion> {
    match to {
        Some(Version::Deployment(id)) => versions.iter().find(|v| v.deployment == *id),
        Some(Version::Commit(commit)) => versions.iter().find(|v| v.commit == *commit),
        None => {
            let present = present.or_else(|| versions.first().map(|v| &v.content))?;
            versions.iter().find(|v| v.content != *present)
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Versions by their contents, the latest first.
    fn recorded(contents: &str) -> Vec<RecordedVersion> {
        let of = |(place, content): (usize, char)| RecordedVersion {
            deployment: DeploymentId::of("test", &place.to_string(), None),
            action: Action::Deploy,
            commit: CommitSha::new(format!("{:040x}", u32::from(content))).unwrap(),
            finished_at: None,
            content: content.to_string().into(),
        };
        contents.chars().enumerate().map(of).collect()
    }

    /// Place of the chosen version.
    fn chosen(to: Option<&Version>, contents: &str, present: Option<&str>) -> Option<usize> {
        let versions = recorded(contents);
        let present = present.map(serde_json::Value::from);
        let chosen = choose_version(to, &versions, present.as_ref())?.deployment;
        versions.iter().position(|v| v.deployment == chosen)
    }

    #[test]
    fn without_a_name_a_rollback_goes_to_the_latest_version_that_differs() {
        assert_eq!(chosen(None, "ba", None), Some(1));
        assert_eq!(chosen(None, "bbba", None), Some(3), "the same again isn't another version");
        assert_eq!(chosen(None, "aba", None), Some(1), "after a rollback, the next one goes forth again");
        assert_eq!(chosen(None, "ba", Some("c")), Some(0), "what is being deployed is what is gone back from");
        assert_eq!(chosen(None, "ba", Some("b")), Some(1));
        assert_eq!(chosen(None, "aa", None), None);
        assert_eq!(chosen(None, "", Some("a")), None);
    }

    #[test]
    fn a_named_version_must_be_among_the_recorded_ones() {
        let versions = recorded("cbab");
        let commit = |n: usize| Version::Commit(versions[n].commit.clone());
        assert_eq!(chosen(Some(&commit(1)), "cbab", None), Some(1), "the latest of that commit");
        assert_eq!(chosen(Some(&Version::Deployment(versions[3].deployment)), "cbab", None), Some(3));
        assert_eq!(chosen(Some(&Version::Deployment(versions[3].deployment)), "cba", None), None, "too long ago");
        assert_eq!(chosen(Some(&commit(0)), "ba", None), None);
    }
}
