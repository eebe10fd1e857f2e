//! The plan of a deployment: what would change on the server, found out by rehearsing the very stages that a deployment
//! runs, over a layer that takes up all they write and is thrown away. Docker's daemon is beyond it: nothing is
//! started, stopped, pulled, removed or opened, also when a stage fails; and GitHub is asked for nothing but the code.

mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use slipway_protocol::{ErrorCode, Stage};
use tokio_util::sync::CancellationToken;

use self::services::services;
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, Deployer, DeploymentWork, RemotePath, Reporter, StageError};

/// What a deployment would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentPlan {
    /// The commit that serves now; none where nothing does.
    pub from: Option<String>,
    /// The commit that would be deployed.
    pub to: String,
    /// Git's summary of the difference between the two.
    pub files: Option<String>,
    /// The variables of `.env` that would differ, without values.
    pub variables: Vec<VariableDifference>,
    /// Lines of the override file, as a difference: `-` goes, `+` comes.
    pub overrides: Vec<String>,
    /// Every service, by name.
    pub services: Vec<ServicePlan>,
    /// Ports whose ufw rule would be added.
    pub open: Vec<u16>,
    /// Ports whose ufw rule would be removed.
    pub close: Vec<u16>,
    /// GitHub Actions secrets that would be written.
    pub secrets: Vec<String>,
    /// Whether the project would get a new deploy key.
    pub new_deploy_key: bool,
}

impl DeploymentPlan {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from.as_ref() == Some(&self.to)
            && self.variables.is_empty()
            && self.overrides.is_empty()
            && self.services.iter().all(|s| s.action == ContainerAction::Keep)
            && self.open.is_empty()
            && self.close.is_empty()
            && self.secrets.is_empty()
            && !self.new_deploy_key
    }
}

/// A variable that would differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VariableDifference {
    /// Its name.
    pub name: String,
    /// How.
    pub change: VariableChange,
}

/// How something would differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VariableChange {
    /// It isn't there yet.
    Added,
    /// It's there with another value.
    Changed,
    /// It would go.
    Removed,
}

/// What would become of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePlan {
    /// Its name.
    pub service: String,
    /// What would be done.
    pub action: ContainerAction,
    /// The image of its container now.
    pub from: Option<String>,
    /// The image that it would have.
    pub to: Option<String>,
    /// Whether that image would be pulled first.
    pub pull: bool,
}

/// What would be done with a service's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerAction {
    /// It stays as it is.
    Keep,
    /// It's made.
    Create,
    /// It's replaced.
    Recreate,
    /// It's there and would be started.
    Start,
    /// It would go: the project doesn't have this service any more.
    Remove,
}

impl Deployer {
    /// Finds out what the deployment `work` would change.
    ///
    /// # Errors
    /// Those with which the deployment itself would fail in preflight, clone and env; `internal-error` where the server
    /// can't lay a layer over a directory (no overlay file system).
    pub async fn plan(
        &self,
        work: DeploymentWork,
        reporter: Arc<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Result<DeploymentPlan, StageError> {
        let scratch = RemotePath::new(&format!("/dev/shm/slipway-plan.{}", work.deployment))
            .ok_or_else(|| StageError::new(ErrorCode::InternalError, "the layer has no valid place"))?;
        let mut attempt = self.begin(work, reporter, cancel);
        attempt.layer = Some(scratch.clone());
        let plan = attempt.rehearse().await.map_err(|error| attempt.redacted_error(error));
        attempt.layer = None;
        let forget = Script::new("forget", scripts::OVERLAY_REMOVE).word("scratch", &scratch);
        let forgotten = attempt.exec(Stage::Preflight, &forget).await;
        attempt.close().await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, "what was rehearsed stays in the server's memory for an hour");
        }
        plan
    }
}

impl Attempt {
    async fn rehearse(&mut self) -> Result<DeploymentPlan, StageError> {
        self.run(Stage::Preflight).await?;
        self.run(Stage::Clone).await?;
        let (before, overrides_before) = self.env_now().await?;
        self.run(Stage::Env).await?;
        let (after, overrides_after) = self.env_now().await?;
        let script = Script::new("plan", scripts::PLAN)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .words("ports", &crate::stages::published(&self.work.request));
        let message = "the project's containers couldn't be compared";
        let said = self.exec_or(Stage::Compose, &script, ErrorCode::InternalError, message).await?;
        let ports: BTreeSet<u16> =
            crate::stages::published(&self.work.request).into_iter().map(|port| port.get()).collect();
        let told = |key| said.values(key).iter().filter_map(|port| port.parse().ok()).collect::<BTreeSet<u16>>();
        let (rules, others) = (told("rule"), told("others"));
        let firewall = said.value("firewall").is_some();
        let desired = self.desired(&after);
        let new_deploy_key = said.value("key").is_none() || !self.knows_deploy_key();
        let mut secrets =
            self.github().differing(&self.work.request.repository.name, &desired, &self.work.github_digests);
        if new_deploy_key {
            secrets.push(crate::stages::secrets::KEY_SECRET.to_owned());
            secrets.sort();
        }
        Ok(DeploymentPlan {
            from: said.value("serving").map(str::to_owned),
            to: self.work.request.repository.commit.to_string(),
            files: said.value("files").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            variables: differences(&before, &after),
            overrides: lines(&overrides_before, &overrides_after),
            services: services(&said)?,
            open: if firewall { ports.difference(&(&rules | &others)).copied().collect() } else { Vec::new() },
            close: rules.difference(&ports).copied().collect(),
            secrets,
            new_deploy_key,
        })
    }
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<VariableDifference> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| match (before.get(name), after.get(name)) {
        (None, Some(_)) => Some(VariableChange::Added),
        (Some(_), None) => Some(VariableChange::Removed),
        (Some(old), Some(new)) if old != new => Some(VariableChange::Changed),
        _ => None,
    };
    names
        .into_iter()
        .filter_map(|name| Some(VariableDifference { name: name.clone(), change: change(name)? }))
        .collect()
}

/// The lines that only one of the two texts has; enough for a file that is rendered in a fixed order.
fn lines(before: &str, after: &str) -> Vec<String> {
    let only = |of: &str, in_: &str, sign: char| -> Vec<String> {
        let others: Vec<&str> = in_.lines().collect();
        of.lines().filter(|line| !others.contains(line)).map(|line| format!("{sign}{line}")).collect()
    };
    [only(before, after, '-'), only(after, before, '+')].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_variables_and_never_their_values() {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let found =
            differences(&map(&[("A", "1"), ("B", "1"), ("C", "1")]), &map(&[("A", "1"), ("B", "2"), ("D", "1")]));
        let seen: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.change)).collect();
        assert_eq!(
            seen,
            [("B", VariableChange::Changed), ("C", VariableChange::Removed), ("D", VariableChange::Added)]
        );
    }
}
