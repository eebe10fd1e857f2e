//! Resuming: what an earlier attempt has done needn't be done again, if the server shows that it's done still. The
//! journal says what to look for; the look is one script and one round trip for all stages.

use std::collections::BTreeMap;

use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use slipway_protocol::Stage;

use super::compose::services;
use crate::script::{GATE, PROJECT, Script};
use crate::{Attempt, Deployer, StageError, StageReport, Work};

/// The fact by which a stage's end is recognised later.
const PROOF: &str = "proof";

/// What the journal tells of stages that are done: their facts.
pub type Done = BTreeMap<Stage, Map<String, Value>>;

impl Attempt {
    /// The stages that can be resumed. The others are cheap and converge: they run again in every attempt.
    pub const RESUMABLE: [Stage; 3] = [Stage::Clone, Stage::Env, Stage::Compose];

    /// Of the stages that are `done` by the journal, reports of those that the server proves to be done still. A stage
    /// counts only if all resumable ones before it do.
    ///
    /// # Errors
    /// Those of the connection; then nothing is proven.
    pub async fn resume(&mut self, done: &Done) -> Result<BTreeMap<Stage, StageReport>, StageError> {
        if !done.contains_key(&Stage::Clone) {
            return Ok(BTreeMap::new());
        }
        let proof = |stage| done.get(&stage).and_then(|facts| facts.get(PROOF)).and_then(Value::as_str);
        let script = Script::new("resume", &[PROJECT, GATE, include_str!("../scripts/resume.sh")])
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("commit", &self.work.request.repository.commit)
            .hex("env_was", proof(Stage::Env).unwrap_or_default())
            .hex("release_was", proof(Stage::Compose).unwrap_or_default());
        let Ok(said) = self.exec(Stage::Clone, &script).await? else { return Ok(BTreeMap::new()) };
        let proven = said.value("done").unwrap_or_default().split(' ').filter_map(|name| name.parse().ok());
        let reports = proven.filter_map(|stage: Stage| {
            let mut report = StageReport::of(false);
            report.facts.clone_from(done.get(&stage)?);
            report = report.fact("resumed", true);
            if stage == Stage::Compose {
                report.services = services(&said);
            }
            Some((stage, self.redacted(report)))
        });
        Ok(reports.collect())
    }
}

impl Deployer {
    /// A keyed digest of everything that the outcome of the resumable stages depends on: what was asked for, the
    /// secrets' values, and the credential for images.
    #[must_use]
    pub fn input_hash(&self, work: &Work) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.config.digest_key.expose_secret().as_bytes());
        let mut hmac = hmac::Context::with_key(&key);
        let mut part = |bytes: &[u8]| {
            hmac.update(&(bytes.len() as u64).to_be_bytes());
            hmac.update(bytes);
        };
        part(&serde_json::to_vec(&work.request).unwrap_or_default());
        for (name, value) in &work.secrets {
            part(name.as_str().as_bytes());
            part(value.expose_secret().as_bytes());
        }
        part(self.config.image_registry.as_bytes());
        if let Some(credential) = &self.config.registry {
            for text in [&credential.registry, &credential.username] {
                part(text.as_bytes());
            }
            part(credential.password.expose_secret().as_bytes());
        }
        hmac.sign().as_ref().to_vec()
    }
}
