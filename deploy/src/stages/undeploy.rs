//! Undeploying: what deploying did is removed in the opposite order. Every step converges, so that an undeployment that
//! was interrupted goes on, and a second one finds nothing to do. Stopping alone is in `stop_start`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use slipway_protocol::names::Port;
use slipway_protocol::{ErrorCode, Stage};

use super::door::with_door;
use super::registry_secrets::REGISTRY_SECRETS;
use super::secrets::KEY_SECRET;
use crate::project::image_tag::image_name;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
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
        let script = self.project_script("undeploy access", scripts::UNDEPLOY_ACCESS);
        let output = self
            .exec_or(Stage::Secrets, &script, ErrorCode::UndeployFailed, "the deploy key couldn't be removed")
            .await?;
        let (deleted, github) = self.delete_github_secrets().await?;
        let changed = !output.values("changed").is_empty() || !deleted.is_empty();
        let deleted: Vec<_> = deleted.into_iter().map(Value::from).collect();
        let mut report = StageReport::of(changed).fact("deleted", deleted).fact("github", github);
        report.github_digests = Some(BTreeMap::new());
        Ok(report)
    }

    /// The names of the secrets that were deleted, and the fact that says why none was.
    async fn delete_github_secrets(&mut self) -> Result<(Vec<String>, &'static str), StageError> {
        if self.work.shares_repository {
            return Ok((Vec::new(), "left alone: another deployment of this repository uses them"));
        }
        let mut names: BTreeSet<String> = self.work.github_digests.keys().cloned().collect();
        if self.work.request.repository.pushes_deployed_by.uses_ci() {
            names.extend(self.desired_secrets(&BTreeMap::new(), false).into_keys());
            names.insert(KEY_SECRET.to_owned());
        }
        let wrote_registrys = self.wrote_registry_secrets();
        names.retain(|name| wrote_registrys || !REGISTRY_SECRETS.contains(&name.as_str()));
        let repository = &self.work.request.repository.name;
        match self.github().delete_secrets(repository, &names, &self.cancel).await {
            Ok(deleted) => Ok((deleted, "deleted")),
            // A repository that is gone or closed to writing doesn't stop an undeployment. What its secrets give access
            // to is gone from the server already.
            Err(error)
                if matches!(
                    error.code,
                    ErrorCode::GithubNotInstalled
                        | ErrorCode::GithubSuspended
                        | ErrorCode::GithubForbidden
                        | ErrorCode::GithubIpNotAllowed
                        | ErrorCode::GithubSsoRequired
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
        let script = self.project_script("close ports", scripts::UNDEPLOY_FIREWALL).words("ports", &none);
        let output = self.exec_or(Stage::Firewall, &script, ErrorCode::FirewallFailed, "ufw failed").await?;
        let closed = json_values(&output, "removed");
        Ok(StageReport::of(!closed.is_empty())
            .fact("ufw", output.value("ufw").unwrap_or("unknown"))
            .fact("closed", closed))
    }

    async fn undeploy_containers(&mut self) -> Result<StageReport, StageError> {
        let request = &self.work.request;
        let of = |module: &str| {
            format!("{}/{}", self.image_registry().as_str(), image_name(&request.repository.name, module))
        };
        let repositories: String = request.modules.iter().map(|m| of(m.as_str()) + "\n").collect();
        let script = self
            .project_script("undeploy containers", scripts::UNDEPLOY_CONTAINERS)
            .bytes("prefix", of("").as_bytes())
            .bytes("repositories", repositories.as_bytes())
            .number("remove_volumes", self.work.remove_volumes.into());
        let output = self
            .exec_or(Stage::Compose, &script, ErrorCode::UndeployFailed, "the containers couldn't be removed")
            .await?;
        for what in output.values("stays") {
            let line =
                format!("warning: {what}: it stays; take it away there, then remove it by hand or undeploy again");
            self.report_line(Stage::Compose, &line);
        }
        let removed = ["container", "network", "image", "volume"];
        let report = StageReport::of(removed.iter().any(|key| !output.values(key).is_empty()))
            .fact("containers", output.values("container").len())
            .fact("images", json_values(&output, "image"))
            .fact("volumes_removed", json_values(&output, "volume"))
            .fact("volumes_kept", json_values(&output, "kept"))
            .fact("left_in_use", json_values(&output, "stays"));
        Ok(with_door(report, &output))
    }

    async fn undeploy_directory(&mut self) -> Result<StageReport, StageError> {
        let script = self.project_script("undeploy directory", scripts::UNDEPLOY_DIRECTORY);
        let output =
            self.exec_or(Stage::Clone, &script, ErrorCode::UndeployFailed, "the directory couldn't be removed").await?;
        Ok(StageReport::of(output.value("change").is_some()))
    }

    fn project_script(&self, name: &'static str, parts: &[&'static str]) -> Script {
        Script::new(name, parts).word("root", self.root()).word("slug", &self.work.request.project.slug)
    }
}

fn json_values(output: &ScriptOutput, key: &str) -> Vec<Value> {
    output.values(key).iter().map(|value| Value::from(value.as_str())).collect()
}
