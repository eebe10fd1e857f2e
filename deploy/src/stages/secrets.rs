//! Secrets: the project's deploy key on the server, and GitHub Actions secrets, so that the next push deploys itself. How
//! secrets are written is in `github::secrets`, and what is installed on the server in `deploy_key`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use slipway_protocol::{ErrorCode, Stage};

use crate::github::secrets::MAX_VALUE_BYTES;
use crate::project::compose::{FILES, REGISTRY_AUTH};
use crate::project::env::dotenv;
use crate::project::workflows::{DeployPortUse, read_deploy_port};
use crate::remote::output::ScriptOutput;
use crate::secrets::keys::DeployKey;
use crate::{Attempt, StageError, StageReport};

/// Where workflows that name no port expect sshd.
const SSH_PORT: u16 = 22;
/// The secret that holds the private half of the deploy key.
pub const KEY_SECRET: &str = "DEPLOY_SSH_KEY";
/// The secret that holds the whole `.env`, in base64.
const DOTENV_SECRET: &str = "DOTENV";

impl Attempt {
    /// Whether GitHub is known to hold a deploy key: the server never keeps a private half to compare with.
    pub(crate) fn knows_deploy_key(&self) -> bool {
        self.work.github_digests.get(KEY_SECRET).is_some_and(|digest| !digest.is_empty())
    }

    /// The report, and the error as well, say what GitHub is known to hold by then: what was written isn't written again,
    /// and what was known before the first write stays known.
    pub(crate) async fn secrets(&mut self) -> Result<StageReport, StageError> {
        let written = self.install_and_write().await;
        let digests = Some(self.work.github_digests.clone());
        match written {
            Ok(report) => Ok(StageReport { github_digests: digests, ..report }),
            Err(mut error) => {
                error.detail.github_digests = digests;
                Err(error)
            }
        }
    }

    async fn install_and_write(&mut self) -> Result<StageReport, StageError> {
        let taken_back = self.take_back_registry_secrets().await?;
        if let Some(taken) = self.work.ci_taken.clone() {
            self.report_line(Stage::Secrets, &format!("warning: {taken}"));
            let output = self.install_key("", None, None).await?;
            self.work.github_digests.clear();
            return Ok(StageReport::of(!output.values("changed").is_empty())
                .fact("finding", ErrorCode::RepositoryTaken.as_str())
                .fact("github", taken));
        }
        if !self.work.request.repository.pushes_deployed_by.uses_ci() {
            let output = self.install_key("", None, None).await?;
            return self.delete_ci_secrets(!output.values("changed").is_empty(), taken_back).await;
        }
        let env = self.known_env(Stage::Secrets).await?;
        let forced = self.forced_command();
        let seen = self.workflows.take();
        if let Some(port_use) = &seen {
            self.warn_of_ci(&env, port_use);
        }
        let mut key = if self.knows_deploy_key() { None } else { Some(self.generate_key()?) };
        // Until GitHub has a new key, the CI that has the old one can't log in: nothing else is done first.
        let replaces = key.is_some() && !self.work.github_digests.is_empty();
        let to_keep = if replaces { None } else { self.to_keep(&env, seen.as_ref(), key.as_ref()) };
        let mut output = self.install_key(&forced, key.as_ref(), to_keep).await?;
        if key.is_none() && output.value("key").is_none() {
            // The key was removed from the server, as undeploying does. So it isn't known what GitHub still holds, and
            // its key can't be the one that is installed now.
            self.forget_github_digests();
            let new = self.generate_key()?;
            output = self.install_key(&forced, Some(&new), self.to_keep(&env, seen.as_ref(), Some(&new))).await?;
            key = Some(new);
        }
        let warned = seen.is_some();
        let port_use = seen.unwrap_or_else(|| deploy_port_of(&output));
        let new_key = key.is_some();
        let proof = self.begin_proof(key.as_ref(), &output);
        let desired = self.desired_with_key(&env, &port_use, key.as_ref());
        let repository = &self.work.request.repository.name;
        let mut digests = self.work.github_digests.clone();
        // GitHub can't compare fences, so only the lease's clock protects this.
        let writing = self.github().put_secrets(repository, &desired, &mut digests, &self.cancel);
        let written = self.work.lease.run_while_held(writing).await;
        self.work.github_digests = digests;
        self.end_proof(proof, &output).await?;
        let written = written?;
        if !warned {
            self.warn_of_ci(&env, &port_use);
        }
        let server_changed = !output.values("changed").is_empty();
        let changed: Vec<_> = written.changed.into_iter().map(serde_json::Value::from).collect();
        let taken_back: Vec<_> = taken_back.into_iter().map(serde_json::Value::from).collect();
        Ok(StageReport::of(server_changed || !changed.is_empty() || !taken_back.is_empty())
            .fact("taken_back", taken_back)
            .fact("written", changed)
            .fact("unchanged", written.unchanged)
            .fact("new_deploy_key", new_key))
    }

    /// Has GitHub asked for what writing secrets needs, while the release is waited for, if some are to be written then.
    pub(super) fn ask_github_ahead(&self, env: &BTreeMap<String, String>) {
        let repository = self.work.request.repository.name.clone();
        if self.work.ci_taken.is_some() || !self.work.request.repository.pushes_deployed_by.uses_ci() {
            return;
        }
        let desired = self.desired_secrets(env, false);
        if !self.github().find_differing_secrets(&repository, &desired, &self.work.github_digests).is_empty() {
            let github = self.github().clone();
            tokio::spawn(async move { github.read_key_ahead(&repository).await });
        }
    }

    /// Warns where the project's own CI can't work with this server: a secret is missing, sshd isn't on port 22 and its
    /// workflows know no other one, or the host is an IPv6 address, whose end their actions take for a port.
    fn warn_of_ci(&self, env: &BTreeMap<String, String>, port_use: &DeployPortUse) {
        let target = &self.work.target;
        let has_dotenv = self.desired_secrets(env, port_use.ssh).contains_key(DOTENV_SECRET);
        port_use.warnings().iter().for_each(|line| self.report_line(Stage::Secrets, line));
        if !has_dotenv {
            let line = "warning: .env is larger than what GitHub takes as a secret (48 KB in base64): DOTENV was left as it \
                        is, and a workflow that writes .env from it must not be used";
            self.report_line(Stage::Secrets, line);
        }
        if target.ssh_port.get() != SSH_PORT && !port_use.ssh && !port_use.knows_ssh_port {
            let line = format!(
                "warning: CI's job logs in on port 22, and sshd listens on {}: add `port: ${{{{ secrets.DEPLOY_SSH_PORT \
                 }}}}` to the ssh and scp steps of its workflow",
                target.ssh_port
            );
            self.report_line(Stage::Secrets, &line);
        }
        if target.address.url_form() != target.address.as_str() {
            let line =
                "warning: CI's job can't log in to an IPv6 address: give this server a DNS name in the inventory";
            self.report_line(Stage::Secrets, line);
        }
    }

    /// All secrets that the repository is to have; the key's only where it's a new one.
    fn desired_with_key(
        &self,
        env: &BTreeMap<String, String>,
        port_use: &DeployPortUse,
        key: Option<&DeployKey>,
    ) -> BTreeMap<String, SecretString> {
        let mut desired = self.desired_secrets(env, port_use.ssh);
        desired.extend(key.map(|key| (KEY_SECRET.to_owned(), key.private.clone())));
        desired
    }

    /// What the server is to keep of this stage's success, where it's known before it: what the workflows need isn't, where stage
    /// clone hasn't run.
    fn to_keep(
        &self,
        env: &BTreeMap<String, String>,
        port_use: Option<&DeployPortUse>,
        key: Option<&DeployKey>,
    ) -> Option<(String, Vec<u8>)> {
        let desired = self.desired_with_key(env, port_use?, key);
        let none = Vec::<serde_json::Value>::new;
        let report = StageReport::of(false)
            .fact("taken_back", none())
            .fact("written", none())
            .fact("unchanged", desired.len())
            .fact("new_deploy_key", false);
        let repository = &self.work.request.repository.name;
        Some(
            self.reports_to_keep(
                &report,
                &self.github().digests_after(repository, &desired, &self.work.github_digests),
            ),
        )
    }

    /// The secrets with which the CI of both template generations deploys. `ssh_port`: whether the workflows log in on the port in
    /// `DEPLOY_PORT`. Without `DOTENV` where that's larger than GitHub takes.
    pub(crate) fn desired_secrets(
        &self,
        env: &BTreeMap<String, String>,
        ssh_port: bool,
    ) -> BTreeMap<String, SecretString> {
        let request = &self.work.request;
        let mut shared = env.clone();
        shared.remove(REGISTRY_AUTH);
        let app_port = request.web().and_then(|web| web.host_port).map(|port| port.to_string()).unwrap_or_default();
        let port = if ssh_port { self.work.target.ssh_port.to_string() } else { app_port };
        let mut desired: BTreeMap<String, SecretString> = [
            ("DEPLOY_HOST", self.work.target.address.to_string()),
            ("DEPLOY_USER", self.work.target.ssh_user.to_string()),
            ("DEPLOY_PORT", port),
            ("DEPLOY_PROJECT_PATH", self.root().of_project(&request.project.slug).as_str().to_owned()),
            ("DEPLOY_COMPOSE_FILES", FILES.join(" ")),
            ("PROJECT_NAME", request.project.slug.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), SecretString::from(value)))
        .collect();
        let dotenv = STANDARD.encode(dotenv::render_with(&shared, &self.env_expressions));
        if dotenv.len() <= MAX_VALUE_BYTES {
            desired.insert(DOTENV_SECRET.to_owned(), SecretString::from(dotenv));
        }
        desired.extend(self.registry_secrets());
        if self.work.target.ssh_port.get() != SSH_PORT {
            let port = self.work.target.ssh_port.to_string();
            desired.insert("DEPLOY_SSH_PORT".to_owned(), SecretString::from(port));
        }
        desired
    }
}

/// What `DEPLOY_PORT` is to the workflows that a script has told.
pub(crate) fn deploy_port_of(output: &ScriptOutput) -> DeployPortUse {
    let told = output.values("workflow").iter().filter_map(|line| line.split_once(' '));
    let workflows: Vec<_> = told
        .map(|(path, content)| {
            (path, String::from_utf8_lossy(&STANDARD.decode(content).unwrap_or_default()).into_owned())
        })
        .collect();
    read_deploy_port(workflows.iter().map(|(path, text)| (*path, text.as_str())))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use slipway_protocol::Stage;
    use tokio_util::sync::CancellationToken;

    use super::super::resume::tests::{SilentReporter, deployer, work};
    use super::KEY_SECRET;

    #[tokio::test]
    async fn what_fails_before_its_first_write_keeps_what_github_is_known_to_hold() {
        let known = [(KEY_SECRET.to_owned(), "a digest".to_owned())].into();
        let mut work = work();
        work.github_digests.clone_from(&known);
        let mut attempt = deployer().begin(work, Arc::new(SilentReporter), CancellationToken::new());
        // Its SSH key can't be used.
        let error = attempt.run(Stage::Secrets).await.expect_err("no server to install a key on");
        assert_eq!(error.detail.github_digests, Some(known), "{error:?}");
    }
}
