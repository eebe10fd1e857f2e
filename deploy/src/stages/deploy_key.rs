//! The server's part of stage secrets: the project's deploy key, and the one program behind it. Once that is in its place, the
//! same script looks after what the attempt leaves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{ErrorCode, Stage};
use tokio::task::JoinHandle;

use crate::remote::failure_phrases::explain_unexpected;
use crate::remote::output::ScriptOutput;
use crate::remote::quote::quote;
use crate::remote::script::Script;
use crate::remote::ssh::{KeyAnswer, RemoteExit};
use crate::scripts;
use crate::secrets::hidden_names::hidden_names;
use crate::secrets::keys::DeployKey;
use crate::stages::secrets::KEY_SECRET;
use crate::{Attempt, StageError};

impl Attempt {
    pub(super) fn generate_key(&self) -> Result<DeployKey, StageError> {
        let key = DeployKey::generate(&format!("slipway:{}", self.work.request.project.slug))?;
        self.learn(&key.private);
        Ok(key)
    }

    /// Installs what CI may run on the server and the key for it; an empty `forced` takes both away. With what is `to_keep` the
    /// script looks after what a success leaves, once the key is in its place.
    pub(super) async fn install_key(
        &mut self,
        forced: &str,
        key: Option<&DeployKey>,
        to_keep: Option<(String, Vec<u8>)>,
    ) -> Result<ScriptOutput, StageError> {
        let line = key.map_or("", |key| key.public.trim());
        let looks_after = to_keep.is_some();
        let (request, reports) = to_keep.unwrap_or_default();
        let script = Script::new("deploy key", scripts::DEPLOY_KEY)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .bytes("forced", forced.as_bytes())
            .bytes("auth", self.registry_login().expose_secret().as_bytes())
            .bytes("key", line.as_bytes())
            .number("workflows_known", (looks_after || forced.is_empty()).into())
            .number("looks_after", looks_after.into())
            .hex("request", &request)
            .bytes("report", &reports)
            .hex("comment", &self.rule_comment())
            .words("ports", &super::published_ports(&self.work.request))
            .bytes("prefix", self.prunable().as_bytes())
            .bytes("logins", self.login_needles().expose_secret().as_bytes())
            .bytes("needles", self.redactor.searchable_values().expose_secret().as_bytes());
        let script = if looks_after { script.last() } else { script };
        let ended = self.run_script(Stage::Secrets, &script).await?;
        let output = if ended.output.value("installed").is_some() {
            let all = ended.exit == RemoteExit::Exited(0);
            self.looked_after =
                (looks_after && all && ended.output.value("looked").is_some()).then(|| ended.output.clone());
            ended.output
        } else {
            let message = "the deploy key couldn't be installed";
            let failed = |output| explain_unexpected(&output, ErrorCode::DeployKeyFailed, message);
            self.judge_end(&script, ended)?.map_err(failed)?
        };
        if output.value("login").is_some() {
            let line =
                "warning: CI's job pulls images without a credential: the SSH user isn't root, and could read it";
            self.report_line(Stage::Secrets, line);
        }
        Ok(output)
    }

    /// Logs in with a new deploy key, as CI will, beside whatever is done meanwhile: where sshd's own word doesn't show that
    /// it reads the file.
    pub(super) fn begin_proof(
        &self,
        key: Option<&DeployKey>,
        installed: &ScriptOutput,
    ) -> Option<JoinHandle<KeyAnswer>> {
        if installed.value("read_by_sshd").is_some() {
            return None;
        }
        let asking = self.session()?.try_key(key?.private.clone());
        Some(tokio::spawn(asking))
    }

    /// What came of it. A key that is refused isn't known to be at GitHub: another attempt makes another one.
    pub(super) async fn end_proof(
        &mut self,
        proof: Option<JoinHandle<KeyAnswer>>,
        installed: &ScriptOutput,
    ) -> Result<(), StageError> {
        let Some(proof) = proof else { return Ok(()) };
        let more = match proof.await.unwrap_or(KeyAnswer::Unknown) {
            KeyAnswer::Taken => return Ok(()),
            KeyAnswer::Unknown => {
                let line = "warning: whether the server takes CI's new key couldn't be tried: it didn't answer a login with it";
                self.report_line(Stage::Secrets, line);
                return Ok(());
            }
            KeyAnswer::Refused => String::new(),
            KeyAnswer::NeedsMore(methods) => format!(" alone, and wants {methods} as well"),
        };
        let file = installed.value("keys").unwrap_or("authorized_keys");
        self.work.github_digests.remove(KEY_SECRET);
        let message = format!(
            "the server refuses CI's key{more}, which is in {file}: sshd may look for keys elsewhere (AuthorizedKeysFile), or \
             refuse that file for who may write it (StrictModes), or let nobody in but some (AllowUsers, `from=`)"
        );
        Err(StageError::new(ErrorCode::DeployKeyFailed, message))
    }

    /// The program behind the deploy key: our own functions with this project's parameters in front. Lists of services are
    /// one word, of quoted ones and quoted spaces.
    pub(super) fn forced_command(&self) -> String {
        let quoted = |services: &[ServiceName]| services.iter().map(quote).collect::<Vec<String>>();
        let modules: Vec<String> = self.work.request.modules.iter().map(quote).collect();
        let (rehearsed, bots) = self.rehearsed_and_bots();
        format!(
            "#!/bin/sh\n# Written by Slipway for CI's deploy key.\nset -eu\numask 077\nroot={}\nslug={}\nowner={}\
             \nregistry={}\nrepository={}\nown_images={}\nrehearsed={}\nbots={}\nchecks={}\npatience={}\ndrain={}\nproving={}\nhidden={}\npull_modules() {{ project_compose pull -q --policy always {}; }}\n{}",
            quote(self.root()),
            quote(&self.work.request.project.slug),
            quote(&self.work.request.project.id),
            quote(self.image_registry()),
            quote(&self.work.request.repository.name),
            quote(&self.own_images()),
            quoted(&rehearsed).join("' '"),
            quoted(&bots).join("' '"),
            STANDARD.encode(self.rehearsal_checks()),
            self.config().health_timeout.as_secs(),
            self.drain_seconds(),
            self.proving_seconds(),
            hidden_names().replace('|', "'|'"),
            modules.join(" "),
            scripts::FORCED_COMMAND.concat(),
        )
    }
}
