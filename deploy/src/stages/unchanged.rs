//! A deployment that asks for what is there: the server proves in one round trip that all is as the last deployment has
//! left it, and the stages are told from that. What isn't proven runs. What counts as the same is decided in `left`, and
//! how the server tells it in `scripts/as_left.sh` and `scripts/prove.sh`.
//!
//! Proven are preflight, clone, env and compose together, since each of them builds on those before it; then firewall,
//! then secrets. Verify always runs: only who asks from outside knows that it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::json;
use slipway_protocol::{Action, ErrorCode, Exposed, Stage};
use tokio::task::JoinSet;

use super::images::Images;
use super::left::ServerState;
use super::left_reports::{AS_LEFT, LeftImage, LeftReports};
use super::resume::PROOF;
use super::service_check::checked_services;
use super::verify::{SeenAnswer, ask_all};
use crate::project::image_tag;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

/// What preflight found that stays as long as the programs do.
const OF_PROGRAMS: [&str; 4] = ["git", "docker", "compose", "ufw"];
/// How long the look at a server may take that comes before everything else.
pub const LOOK_TIME: Duration = Duration::from_secs(60);
/// Of the code that decides what a deployment does, the scripts included.
const SOURCE: &str = env!("SOURCE_DIGEST");

impl Attempt {
    /// A keyed digest of all that the stages are given, in hexadecimal digits; empty where nothing is to be proven. Ids,
    /// the order of requests and how secrets are sealed aren't part of what is asked for.
    pub(super) fn request_digest(&self) -> String {
        if self.work.action != Action::Deploy || self.layer.is_some() {
            return String::new();
        }
        let mut work = self.work.clone();
        work.request.sequence = None;
        work.request.expires_at = None;
        work.request.correlation = slipway_protocol::Correlation::default();
        work.request.secrets.clear();
        work.request.registry = None;
        // Where it's to be is known by now.
        work.request.placement = None;
        work.request.resources = None;
        let config = self.config();
        let given = json!([
            SOURCE,
            [work.target.handle.as_str(), work.target.address.as_str(), work.target.ssh_user.as_str()],
            work.target.ssh_port.get(),
            work.shares_repository,
            format!("{:?}", work.former_owners),
            work.ci_taken,
            format!("{:?}", work.allowances),
            format!("{:?}", work.registry.as_ref().map(|credential| credential.source)),
            [&config.github_api, &config.github_git, &config.project_root],
            format!("{:?} {:?}", config.limits, config.health_timeout),
            format!("{:?}", self.front_door()),
        ]);
        // That hides the account's key.
        let (input, given, acme) = (self.deployer_input_hash(&work), given.to_string(), self.acme_lines());
        self.keyed_digest([input.as_slice(), given.as_bytes(), acme.expose_secret().as_bytes()])
    }

    fn keyed_digest<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.config().digest_key.expose_secret().as_bytes());
        let mut hmac = hmac::Context::with_key(&key);
        for part in parts {
            hmac.update(&(part.len() as u64).to_be_bytes());
            hmac.update(part);
        }
        HEXLOWER.encode(hmac.sign().as_ref())
    }

    /// Of what GitHub is known to hold.
    fn github_digest(&self, known: &BTreeMap<String, String>) -> String {
        let known = known.iter().flat_map(|(name, digest)| [name.as_bytes(), digest.as_bytes()]);
        self.keyed_digest(known)
    }

    /// What stands in the lines that the server keeps: the comment of a firewall's rule, in hexadecimal digits.
    pub(super) fn rule_comment(&self) -> String {
        HEXLOWER.encode(format!("slipway:{}", self.work.request.project.slug).as_bytes())
    }

    /// Notes which images the release has, if they stay the same until somebody asks for others.
    pub(super) fn note_images(&mut self, wanted: &BTreeMap<String, String>, found: &Images, model: &[u8]) {
        let env = self.env_on_server.clone().unwrap_or_default();
        let fixed =
            env.iter().filter(|(name, _)| name.ends_with("_IMAGE")).all(|(_, image)| image_tag::is_fixed(image));
        let pulls = String::from_utf8_lossy(model).contains("\"pull_policy\"");
        let images = wanted.iter().map(|(name, image)| {
            let (reference, digest) = (found.references.get(name)?.clone(), found.digests.get(name).cloned());
            // What CI has deployed is named by tags that it moves.
            let in_env = env.get(name) == Some(&reference);
            in_env.then(|| (name.clone(), LeftImage { name: image.clone(), reference, digest }))
        });
        self.left.images = images.collect::<Option<_>>().filter(|_| fixed && !pulls);
    }

    /// What the server is to keep after a success: what was asked for, and what was reported. Empty where the next
    /// deployment has to look for itself. `digests`: of what GitHub holds then; where it's known to hold something else, stage
    /// secrets isn't proven by this.
    pub(super) fn reports_to_keep(
        &self,
        secrets: &StageReport,
        digests: &BTreeMap<String, String>,
    ) -> (String, Vec<u8>) {
        let nothing = (String::new(), Vec::new());
        let mut facts = self.left.finished.clone();
        facts.insert(Stage::Secrets, secrets.facts.clone());
        let is_root = facts.get(&Stage::Preflight).is_some_and(|facts| facts.get("user") == Some(&json!("root")));
        let (true, true, Some(images)) = (is_root, facts.len() == Stage::ALL.len(), self.left.images.clone()) else {
            return nothing;
        };
        let warnings = self.left.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let reports = LeftReports { facts, images, github: self.github_digest(digests), warnings };
        let request = self.request_digest();
        reports.to_json().filter(|_| !request.is_empty()).map_or(nothing, |json| (request, json))
    }

    /// `request`: what may be there already, and is proven then; empty where nothing is to be proven.
    pub(super) async fn look_at_server(&mut self, request: &str) -> Result<ScriptOutput, StageError> {
        let script = Script::new("preflight", scripts::PREFLIGHT)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .hex("request", request)
            .hex("comment", &self.rule_comment())
            .words("ports", &super::published_ports(&self.work.request))
            .words("web_ports", self.web_ports())
            .within(LOOK_TIME);
        // By another user, sudo would write all of it into the server's log.
        let script = if self.work.target.ssh_user.as_str() == "root" { script.openly() } else { script };
        // Where all is as it was left, nothing follows.
        let script = if request.is_empty() || self.work.github_digests.is_empty() { script } else { script.last() };
        let message = "the preflight script failed on the server";
        self.exec_or(Stage::Preflight, &script, ErrorCode::InternalError, message).await
    }

    /// Judges a server that all stages run on.
    pub(super) fn judge_anew(&mut self, output: &ScriptOutput) -> Result<StageReport, StageError> {
        let report = self.judge_server(output)?;
        let told = |key| output.value(key).unwrap_or_default().to_owned();
        let versions = format!("{} {}", told("docker"), told("compose"));
        self.docker = Some(vec![("docker", versions), ("logging", told("logging"))]);
        self.begin_next_script();
        Ok(report)
    }

    /// What preflight reports where all is as it was left; the reports of the other stages that needn't run are kept
    /// until their turn. Else why all have to run.
    pub(super) async fn prove(
        &mut self,
        mut output: ScriptOutput,
        asking: JoinSet<SeenAnswer>,
    ) -> Result<StageReport, &'static str> {
        let kept = output.value("report").and_then(|report| STANDARD.decode(report).ok());
        let kept = kept.and_then(|json| LeftReports::read(&json)).ok_or("what was left isn't known")?;
        for name in OF_PROGRAMS {
            let version = kept.fact(Stage::Preflight, name);
            output.assume(name, version.as_str().ok_or("what was left isn't known")?);
        }
        // Nothing has to be fetched.
        output.assume("docker_client", "present");
        output.assume("resolves", "yes");
        let preflight = self.judge_server(&output).map_err(|_| "the server isn't fit any more")?;
        let state = ServerState::read(&output);
        let proof = kept.fact(Stage::Compose, PROOF);
        if let Some(why) = state.release_differs(proof.as_str().unwrap_or_default()) {
            return Err(why);
        }
        let asked = asking.join_all().await;
        self.left.answers = asked.into_iter().filter_map(|(port, answer)| Some((port, answer?))).collect();
        self.published = Some(super::firewall::parse_published(state.published()));
        let (images, exposed) = tokio::join!(self.has_images(&kept.images), self.look_at_published_ports());
        if !images {
            self.left.answers.clear();
            return Err("the registry has other images");
        }
        let exposed = exposed.unwrap_or_default();
        let mut proven = BTreeMap::from([Stage::Clone, Stage::Env, Stage::Compose].map(|s| (s, kept.of_unchanged(s))));
        if let Some(compose) = proven.get_mut(&Stage::Compose) {
            compose.services = state.services();
        }
        if state.firewall_is_same() {
            self.warn_of_rules(&kept.fact(Stage::Firewall, "ruled_by_others"));
            self.warn_of_exposed(&exposed);
            let firewall = kept.of_unchanged(Stage::Firewall).fact(Exposed::FACT, json!(exposed));
            proven.insert(Stage::Firewall, firewall);
            if state.access_is_same() && self.github_digest(&self.work.github_digests) == kept.github {
                kept.warnings.iter().for_each(|line| self.report_line(Stage::Secrets, line));
                let digests = Some(self.work.github_digests.clone());
                let secrets = StageReport { github_digests: digests, ..kept.of_unchanged(Stage::Secrets) };
                proven.insert(Stage::Secrets, secrets);
            }
        }
        if !proven.contains_key(&Stage::Secrets) {
            self.begin_next_script();
        }
        self.left.images = Some(kept.images);
        self.left.unchanged = Some(state.services());
        self.left.proven = proven;
        Ok(preflight.fact(AS_LEFT, true))
    }

    /// Asks the services from here while the server shows how it is: where that's unchanged, what answers meanwhile is what
    /// verify would ask, and it needn't wait. Only where something was deployed before.
    pub(super) fn ask_what_is_there(&self) -> JoinSet<SeenAnswer> {
        if self.work.action != Action::Deploy || self.layer.is_some() || self.work.github_digests.is_empty() {
            return JoinSet::new();
        }
        let checked = checked_services(&self.work.request, &self.work.target.address.url_form());
        ask_all(self.probe(), checked, &self.work.request.repository.commit)
    }

    /// Whether the registry still gives the same images.
    async fn has_images(&self, left: &BTreeMap<String, LeftImage>) -> bool {
        let wanted = left.iter().map(|(name, image)| (name.clone(), image.name.clone())).collect();
        let Ok(found) = self.images(wanted, &BTreeSet::new()).await else { return false };
        left.iter().all(|(name, image)| {
            found.references.get(name) == Some(&image.reference) && found.digests.get(name) == image.digest.as_ref()
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::super::resume::tests::{SilentReporter, deployer, work};
    use super::*;
    use crate::{Acme, DoorImage, ExternalAccount, FrontDoor, PlainWord};

    #[test]
    fn an_account_at_the_certificate_authority_with_another_key_is_another_request() {
        let digest = |key: &str| {
            let key_id = PlainWord::new("kid-1").expect("a word");
            let external_account = ExternalAccount::new(key_id, key.to_owned().into());
            let image = format!("docker.io/library/caddy@sha256:{}", "a".repeat(64));
            let door = FrontDoor {
                by_default: true,
                image: DoorImage::new(&image).expect("an image"),
                drain_limit: Duration::from_secs(30),
                proving_time: Duration::from_secs(12),
                acme: Acme { external_account, ..Acme::default() },
            };
            let mut deployer = deployer();
            Arc::make_mut(&mut deployer.config).front_door = Some(door);
            deployer.begin(work(), Arc::new(SilentReporter), CancellationToken::new()).request_digest()
        };
        let first = digest("zWNDZM6eQGHWpSRTPal5");
        assert_eq!(digest("zWNDZM6eQGHWpSRTPal5"), first);
        assert_ne!(digest("zWNDZM6eQGHWpSRTPal6"), first);
    }
}
