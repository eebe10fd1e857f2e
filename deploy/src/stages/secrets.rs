//! Secrets: the project's deploy key on the server, and GitHub Actions secrets, so that the next push deploys itself. How
//! secrets are written is in `github::secrets`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::ServiceName;
use slipway_protocol::{ErrorCode, Stage};

use crate::github::secrets::MAX_VALUE_BYTES;
use crate::project::compose::{FILES, REGISTRY_AUTH};
use crate::project::env::dotenv;
use crate::project::workflows::{DeployPortUse, read_deploy_port};
use crate::remote::output::ScriptOutput;
use crate::remote::quote::quote;
use crate::remote::script::Script;
use crate::scripts;
use crate::secrets::hidden_names::hidden_names;
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
            let output = self.install_key("", None).await?;
            self.work.github_digests.clear();
            return Ok(StageReport::of(!output.values("changed").is_empty())
                .fact("finding", ErrorCode::RepositoryTaken.as_str())
                .fact("github", taken));
        }
        if !self.work.request.repository.pushes_deployed_by.uses_ci() {
            let output = self.install_key("", None).await?;
            return self.delete_ci_secrets(!output.values("changed").is_empty(), taken_back).await;
        }
        let env = self.known_env(Stage::Secrets).await?;
        let forced = self.forced_command();
        let mut key = if self.knows_deploy_key() { None } else { Some(self.generate_key()?) };
        let mut output = self.install_key(&forced, key.as_ref()).await?;
        if key.is_none() && output.value("key").is_none() {
            // The key was removed from the server, as undeploying does. So it isn't known what GitHub still holds, and
            // its key can't be the one that is installed now.
            self.forget_github_digests();
            let new = self.generate_key()?;
            output = self.install_key(&forced, Some(&new)).await?;
            key = Some(new);
        }
        let port_use = deploy_port_of(&output);
        let mut desired = self.desired_secrets(&env, port_use.ssh);
        let new_key = key.is_some();
        if let Some(key) = key {
            desired.insert(KEY_SECRET.to_owned(), key.private);
        }
        let repository = &self.work.request.repository.name;
        let mut digests = self.work.github_digests.clone();
        // GitHub can't compare fences, so only the lease's clock protects this.
        let writing = self.github().put_secrets(repository, &desired, &mut digests, &self.cancel);
        let written = self.work.lease.run_while_held(writing).await;
        self.work.github_digests = digests;
        let written = written?;
        self.warn_of_ci(desired.contains_key(DOTENV_SECRET), &port_use);
        let server_changed = !output.values("changed").is_empty();
        let changed: Vec<_> = written.changed.into_iter().map(serde_json::Value::from).collect();
        let taken_back: Vec<_> = taken_back.into_iter().map(serde_json::Value::from).collect();
        Ok(StageReport::of(server_changed || !changed.is_empty() || !taken_back.is_empty())
            .fact("taken_back", taken_back)
            .fact("written", changed)
            .fact("unchanged", written.unchanged)
            .fact("new_deploy_key", new_key))
    }

    /// Warns where the project's own CI can't work with this server: a secret is missing, sshd isn't on port 22 and its
    /// workflows know no other one, or the host is an IPv6 address, whose end their actions take for a port.
    fn warn_of_ci(&self, has_dotenv: bool, port_use: &DeployPortUse) {
        let target = &self.work.target;
        port_use.warnings().iter().for_each(|line| self.report_line(Stage::Secrets, line));
        if !has_dotenv {
            let line = "warning: .env is larger than what GitHub takes as a secret (48 KiB in base64): DOTENV was left as it \
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

    fn generate_key(&self) -> Result<DeployKey, StageError> {
        let key = DeployKey::generate(&format!("slipway:{}", self.work.request.project.slug))?;
        self.learn(&key.private);
        Ok(key)
    }

    /// Installs what CI may run on the server and the key for it; an empty `forced` takes both away.
    async fn install_key(&mut self, forced: &str, key: Option<&DeployKey>) -> Result<ScriptOutput, StageError> {
        let line = key.map_or("", |key| key.public.trim());
        let script = Script::new("deploy key", scripts::DEPLOY_KEY)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .bytes("forced", forced.as_bytes())
            .bytes("auth", self.registry_login().expose_secret().as_bytes())
            .bytes("key", line.as_bytes());
        let message = "the deploy key couldn't be installed";
        let output = self.exec_or(Stage::Secrets, &script, ErrorCode::DeployKeyFailed, message).await?;
        if output.value("login").is_some() {
            let line =
                "warning: CI's job pulls images without a credential: the SSH user isn't root, and could read it";
            self.report_line(Stage::Secrets, line);
        }
        Ok(output)
    }

    /// The program behind the deploy key: our own functions with this project's parameters in front. Lists of services are
    /// one word, of quoted ones and quoted spaces.
    fn forced_command(&self) -> String {
        let quoted = |services: &[ServiceName]| services.iter().map(quote).collect::<Vec<String>>();
        let modules: Vec<String> = self.work.request.modules.iter().map(quote).collect();
        let (rehearsed, bots) = self.rehearsed_and_bots();
        format!(
            "#!/bin/sh\n# Written by Slipway for CI's deploy key.\nset -eu\numask 077\nroot={}\nslug={}\nowner={}\
             \nregistry={}\nown_images={}\nrehearsed={}\nbots={}\nchecks={}\npatience={}\nhidden={}\npull_modules() {{ project_compose pull -q {}; }}\n{}",
            quote(self.root()),
            quote(&self.work.request.project.slug),
            quote(&self.work.request.project.id),
            quote(self.image_registry()),
            quote(&self.own_images()),
            quoted(&rehearsed).join("' '"),
            quoted(&bots).join("' '"),
            STANDARD.encode(self.rehearsal_checks()),
            self.config().health_timeout.as_secs(),
            hidden_names().replace('|', "'|'"),
            modules.join(" "),
            scripts::FORCED_COMMAND.concat(),
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
        let app_port = request.web().map(|web| web.host_port.to_string()).unwrap_or_default();
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
        let dotenv = STANDARD.encode(dotenv::render(&shared));
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
    use std::time::Duration;

    use slipway_protocol::names::HostKey;
    use slipway_protocol::{Failure, Stage};
    use tokio_util::sync::CancellationToken;

    use super::super::resume::tests::{deployer, work};
    use super::KEY_SECRET;
    use crate::Reporter;

    struct SilentReporter;

    impl Reporter for SilentReporter {
        fn line(&self, _: Stage, _: &str) {}
        fn retrying(&self, _: Stage, _: &Failure, _: Duration) {}
        fn host_key_learned(&self, _: &HostKey) {}
    }

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
