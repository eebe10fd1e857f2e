//! Undeploying: what deploying did, taken back in the opposite order. Every step converges, so that an undeployment
//! that was interrupted goes on, and one that is asked for twice finds nothing to do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use slipway_protocol::names::Port;
use slipway_protocol::{ErrorCode, Stage};

use super::secrets::KEY_SECRET;
use crate::env::plan::image_name;
use crate::lines::ScriptOutput;
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn undeploy(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        match stage {
            Stage::Secrets => self.undeploy_access().await,
            Stage::Firewall => self.undeploy_firewall().await,
            Stage::Compose => self.undeploy_containers().await,
            Stage::Clone => self.undeploy_directory().await,
            Stage::Preflight | Stage::Env | Stage::Verify => {
                Err(StageError::new(ErrorCode::InternalError, format!("undeploying has no stage {stage}")))
            }
        }
    }

    /// The deploy key's line on the server, then the secrets at GitHub.
    async fn undeploy_access(&mut self) -> Result<StageReport, StageError> {
        let script = self.of_project("undeploy access", scripts::UNDEPLOY_ACCESS);
        let said = self
            .exec_or(Stage::Secrets, &script, ErrorCode::UndeployFailed, "the deploy key couldn't be removed")
            .await?;
        let (deleted, github) = self.delete_github_secrets().await?;
        let changed = !said.values("changed").is_empty() || !deleted.is_empty();
        let deleted: Vec<_> = deleted.into_iter().map(Value::from).collect();
        let mut report = StageReport::of(changed).fact("deleted", deleted).fact("github", github);
        report.github_digests = Some(BTreeMap::new());
        Ok(report)
    }

    /// The names of the secrets that were deleted, and a word for what was found.
    async fn delete_github_secrets(&mut self) -> Result<(Vec<String>, &'static str), StageError> {
        if self.work.shares_repository {
            return Ok((Vec::new(), "left alone: another deployment of this repository uses them"));
        }
        let mut names: BTreeSet<String> = self.desired(&BTreeMap::new()).into_keys().collect();
        names.extend(self.work.github_digests.keys().cloned());
        names.insert(KEY_SECRET.to_owned());
        let repository = &self.work.request.repository.name;
        match self.github().delete_secrets(repository, &names, &self.cancel).await {
            Ok(deleted) => Ok((deleted, "deleted")),
            // A repository that is gone, or that nobody may write to, is a reason to undeploy and none not to. What its
            // secrets open is gone from the server already.
            Err(error)
                if matches!(
                    error.code,
                    ErrorCode::GithubNotInstalled
                        | ErrorCode::GithubSuspended
                        | ErrorCode::GithubForbidden
                        | ErrorCode::RepositoryNotFound
                        | ErrorCode::GithubArchived
                ) =>
            {
                Ok((Vec::new(), "left alone: the repository is gone, archived, or closed to Slipway"))
            }
            Err(error) => Err(error),
        }
    }

    async fn undeploy_firewall(&mut self) -> Result<StageReport, StageError> {
        let none: [Port; 0] = [];
        let script = self.of_project("close ports", scripts::UNDEPLOY_FIREWALL).words("ports", &none);
        let said = self.exec_or(Stage::Firewall, &script, ErrorCode::FirewallFailed, "ufw failed").await?;
        let closed = told(&said, "removed");
        Ok(StageReport::of(!closed.is_empty())
            .fact("ufw", said.value("ufw").unwrap_or("unknown"))
            .fact("closed", closed))
    }

    async fn undeploy_containers(&mut self) -> Result<StageReport, StageError> {
        let request = &self.work.request;
        let of = |module: &str| {
            format!("{}/{}", self.image_registry().as_str(), image_name(&request.repository.name, module))
        };
        let repositories: String = request.modules.iter().map(|m| of(m.as_str()) + "\n").collect();
        let script = self
            .of_project("undeploy containers", scripts::UNDEPLOY_CONTAINERS)
            .bytes("prefix", of("").as_bytes())
            .bytes("repositories", repositories.as_bytes())
            .number("remove_volumes", self.work.remove_volumes.into());
        let said = self
            .exec_or(Stage::Compose, &script, ErrorCode::UndeployFailed, "the containers couldn't be removed")
            .await?;
        let removed = ["container", "network", "image", "volume"];
        Ok(StageReport::of(removed.iter().any(|key| !said.values(key).is_empty()))
            .fact("containers", said.values("container").len())
            .fact("images", told(&said, "image"))
            .fact("volumes_removed", told(&said, "volume"))
            .fact("volumes_kept", told(&said, "kept")))
    }

    async fn undeploy_directory(&mut self) -> Result<StageReport, StageError> {
        let script = self.of_project("undeploy directory", scripts::UNDEPLOY_DIRECTORY);
        let said =
            self.exec_or(Stage::Clone, &script, ErrorCode::UndeployFailed, "the directory couldn't be removed").await?;
        Ok(StageReport::of(said.value("change").is_some()))
    }

    fn of_project(&self, name: &'static str, parts: &[&'static str]) -> Script {
        Script::new(name, parts).word("root", self.root()).word("slug", &self.work.request.project.slug)
    }
}

fn told(said: &ScriptOutput, key: &str) -> Vec<Value> {
    said.values(key).iter().map(|value| Value::from(value.as_str())).collect()
}
