//! Finds the plan by running the first stages of the deployment itself, over a layer that takes everything they write and
//! is thrown away afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use slipway_protocol::{ErrorCode, Stage};
use tokio_util::sync::CancellationToken;

use super::deployment_plan::{DeploymentPlan, VariableChange, VariableDifference};
use super::rules::plan_rules;
use super::services::plan_services;
use crate::remote::script::Script;
use crate::scripts;
use crate::stages::WEB_PORTS;
use crate::stages::secrets::deploy_port_of;
use crate::{Attempt, Deployer, DeploymentWork, RemotePath, Reporter, StageError};

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
        let plan = attempt.rehearse().await.map_err(|error| attempt.redactor.tell_error(error));
        attempt.layer = None;
        let remove_layer = Script::new("forget", scripts::OVERLAY_REMOVE).word("scratch", &scratch);
        let removed = attempt.exec(Stage::Preflight, &remove_layer).await;
        attempt.close().await;
        if let Err(error) = removed {
            tracing::warn!(%error, "the rehearsal's layer couldn't be removed, and stays in the server's memory for an hour");
        }
        plan
    }
}

impl Attempt {
    async fn rehearse(&mut self) -> Result<DeploymentPlan, StageError> {
        self.run(Stage::Preflight).await?;
        self.run(Stage::Clone).await?;
        let (before, overrides_before) = self.read_env_and_override().await?;
        self.run(Stage::Env).await?;
        let (after, overrides_after) = self.read_env_and_override().await?;
        let script = Script::new("plan", scripts::PLAN)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .words("ports", &crate::stages::published_ports(&self.work.request));
        let message = "the project's containers couldn't be compared";
        let output = self.exec_or(Stage::Compose, &script, ErrorCode::InternalError, message).await?;
        let ports: BTreeSet<u16> =
            crate::stages::published_ports(&self.work.request).into_iter().map(|port| port.get()).collect();
        let web = if output.value("domains_of").is_some() { WEB_PORTS } else { self.web_ports() };
        let rules = plan_rules(&output, &ports, &web.iter().copied().collect());
        let for_ci = self.work.request.repository.pushes_deployed_by.uses_ci() && self.work.ci_taken.is_none();
        let desired =
            if for_ci { self.desired_secrets(&after, deploy_port_of(&output).ssh) } else { self.registry_secrets() };
        let new_deploy_key = for_ci && (output.value("key").is_none() || !self.knows_deploy_key());
        let mut secrets = self.github().find_differing_secrets(
            &self.work.request.repository.name,
            &desired,
            &self.work.github_digests,
        );
        if new_deploy_key {
            secrets.push(crate::KEY_SECRET.to_owned());
            secrets.sort();
        }
        let present = self.look(&output, Duration::ZERO).await;
        Ok(DeploymentPlan {
            from: present.commit.map(|commit| commit.to_string()),
            checkout: output.value("checkout").map(str::to_owned),
            to: self.work.request.repository.commit.to_string(),
            files: output.value("files").map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            variables: find_differences(&before, &after),
            overrides: diff_lines(&overrides_before, &overrides_after),
            services: plan_services(&output)?,
            open: rules.open,
            close: rules.close,
            secrets,
            registry_credential: self.work.registry.as_ref().map(|credential| credential.source.as_str().to_owned()),
            new_deploy_key,
        })
    }
}

fn find_differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<VariableDifference> {
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
fn diff_lines(before: &str, after: &str) -> Vec<String> {
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
            find_differences(&map(&[("A", "1"), ("B", "1"), ("C", "1")]), &map(&[("A", "1"), ("B", "2"), ("D", "1")]));
        let seen: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.change)).collect();
        assert_eq!(
            seen,
            [("B", VariableChange::Changed), ("C", VariableChange::Removed), ("D", VariableChange::Added)]
        );
    }
}
