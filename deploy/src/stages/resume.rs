//! Resuming: a stage that an earlier attempt has done isn't run again, if the server proves that it's still done. The
//! journal says what to look for; one script and one round trip are enough for all stages. Keeping the journal is the
//! worker's task.

use std::collections::BTreeMap;

use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use slipway_protocol::Stage;

use super::compose::parse_services;
use super::left_reports::AS_LEFT;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, Deployer, DeploymentWork, StageError, StageReport};

/// The fact by which a stage's end is recognised later.
pub(super) const PROOF: &str = "proof";

/// The stages that are done by the journal, with their facts.
pub type CompletedStages = BTreeMap<Stage, Map<String, Value>>;

impl Attempt {
    /// Reports of those `completed` stages that the server proves to be still done. These can be clone, env and compose,
    /// each only if those before it are proven; the others are cheap and run in every attempt.
    ///
    /// # Errors
    /// Those of the connection; then nothing is proven.
    pub async fn resume(&mut self, completed: &CompletedStages) -> Result<BTreeMap<Stage, StageReport>, StageError> {
        let completed = carried_out(completed);
        if !completed.contains_key(&Stage::Clone) {
            return Ok(BTreeMap::new());
        }
        let proof = |stage| completed.get(&stage).and_then(|facts| facts.get(PROOF)).and_then(Value::as_str);
        let script = Script::new("resume", scripts::RESUME)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("commit", &self.work.request.repository.commit)
            .hex("env_was", proof(Stage::Env).unwrap_or_default())
            .hex("release_was", proof(Stage::Compose).unwrap_or_default());
        let Ok(output) = self.exec(Stage::Clone, &script).await? else { return Ok(BTreeMap::new()) };
        let proven = output.value("done").unwrap_or_default().split(' ').filter_map(|name| name.parse().ok());
        let reports = proven.filter_map(|stage: Stage| {
            let mut report = StageReport::of(false);
            report.facts.clone_from(completed.get(&stage)?);
            report = report.fact("resumed", true);
            if stage == Stage::Compose {
                report.services = parse_services(&output);
            }
            Some((stage, self.redactor.tell_report(stage, report).ok()?))
        });
        let mut proven: BTreeMap<Stage, StageReport> = reports.collect();
        if !self.may_be_arrived() {
            proven.remove(&Stage::Compose);
        }
        Ok(proven)
    }
}

/// What was only found as it had been left was done by no attempt: where one has failed after it, it runs.
fn carried_out(completed: &CompletedStages) -> CompletedStages {
    completed
        .iter()
        .filter(|(_, facts)| !facts.contains_key(AS_LEFT))
        .map(|(stage, facts)| (*stage, facts.clone()))
        .collect()
}

impl Deployer {
    /// A keyed digest of everything that the outcome of the resumable stages depends on: what was asked for, the
    /// secrets' values, the images of a recorded version, and the credential for images.
    #[must_use]
    pub fn input_hash(&self, work: &DeploymentWork) -> Vec<u8> {
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
        for text in work.images.iter().flat_map(|(name, digest)| [name, digest]) {
            part(text.as_bytes());
        }
        part(self.config.image_registry.as_bytes());
        if let Some(credential) = &work.registry {
            part(credential.source.as_str().as_bytes());
            part(credential.login().expose_secret().as_bytes());
        }
        hmac.sign().as_ref().to_vec()
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use std::sync::Arc;
    use std::time::Duration;

    use secrecy::SecretString;
    use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName, VariableName};
    use slipway_protocol::{Action, DeploymentId, Failure};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        DeployerConfig, EarlierRequests, GithubCredential, HostKeyPolicy, LeaseGuard, ProjectLimits,
        RegistryCredential, RegistryCredentialSource, Reporter, Target,
    };

    pub(crate) struct SilentReporter;

    impl Reporter for SilentReporter {
        fn line(&self, _: Stage, _: &str) {}
        fn retrying(&self, _: Stage, _: &Failure, _: Duration) {}
        fn host_key_learned(&self, _: &HostKey) {}
    }

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    pub(crate) fn deployer() -> Deployer {
        let config = DeployerConfig {
            github_api: "http://127.0.0.1".to_owned(),
            github_git: "https://github.com".to_owned(),
            github: GithubCredential::Token("a token".into()),
            image_registry: "ghcr.io".to_owned(),
            registry_token_host: None,
            digest_key: secret("0123456789abcdef0123456789abcdef"),
            ca_file: None,
            project_root: "/opt/services".to_owned(),
            command_timeout: Duration::from_secs(60),
            health_timeout: Duration::from_secs(60),
            limits: ProjectLimits::DEFAULT,
            front_door: None,
        };
        Deployer::new(config).expect("a deployer")
    }

    pub(crate) fn work() -> DeploymentWork {
        let request = serde_json::json!({
            "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "shop" },
            "repository": {
                "name": "acme/shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main"
            },
            "server": { "handle": "one" },
            "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
            "modules": ["backend"],
            "variables": { "GREETING": "hello" }
        });
        DeploymentWork {
            deployment: DeploymentId(uuid::Uuid::nil()),
            action: Action::Deploy,
            remove_volumes: false,
            moving: None,
            shares_repository: false,
            former_owners: Vec::new(),
            ci_taken: None,
            request: serde_json::from_value(request).expect("a request"),
            target: Target {
                handle: ServerHandle::new("one").expect("a handle"),
                address: Host::new("192.0.2.1").expect("an address"),
                ssh_port: Port::new(22).expect("a port"),
                ssh_user: UserName::new("root").expect("a user"),
                host_key: HostKeyPolicy::Refuse,
                ssh_key: secret("a key"),
                front_door: None,
            },
            secrets: [(VariableName::new("PAGER").expect("a name"), secret("x-7c1d"))].into(),
            registry: Some(RegistryCredential {
                username: "robot".to_owned(),
                password: secret("p"),
                source: RegistryCredentialSource::Fleet,
            }),
            images: BTreeMap::new(),
            earlier: EarlierRequests::default(),
            github_digests: BTreeMap::new(),
            allowances: Vec::new(),
            lease: LeaseGuard::endless(1),
        }
    }

    /// No server is asked: there is none.
    #[tokio::test]
    async fn what_was_only_found_as_it_had_been_left_is_resumed_by_nobody() {
        let mut attempt = deployer().begin(work(), Arc::new(SilentReporter), CancellationToken::new());
        let facts = Map::from_iter([(AS_LEFT.to_owned(), true.into()), (PROOF.to_owned(), "ab".into())]);
        let mut completed =
            CompletedStages::from([Stage::Clone, Stage::Env, Stage::Compose].map(|stage| (stage, facts.clone())));
        assert!(attempt.resume(&completed).await.expect("nobody is asked").is_empty());
        // A later attempt has carried out the first one alone.
        completed.insert(Stage::Clone, Map::from_iter([(PROOF.to_owned(), "cd".into())]));
        assert_eq!(carried_out(&completed).into_keys().collect::<Vec<_>>(), [Stage::Clone]);
    }

    #[test]
    fn the_same_commit_with_anything_else_changed_is_other_input() {
        let deployer = deployer();
        let hash = |edit: fn(&mut DeploymentWork)| {
            let mut work = work();
            edit(&mut work);
            deployer.input_hash(&work)
        };
        let before = hash(|_| {});
        // A deployment's own id isn't part of what was asked for.
        assert_eq!(hash(|work| work.deployment = DeploymentId(uuid::Uuid::max())), before);
        let others = [
            hash(|work| work.request.variables.values_mut().for_each(|value| "good bye".clone_into(value))),
            hash(|work| work.request.variables.clear()),
            hash(|work| work.request.allocations[0].host_port = Port::new(8081).ok()),
            hash(|work| work.secrets.values_mut().for_each(|value| *value = secret("x-7c1e"))),
            hash(|work| work.secrets.clear()),
            hash(|work| drop(work.images.insert("BACKEND_IMAGE".to_owned(), "sha256:ab".to_owned()))),
            hash(|work| work.registry.iter_mut().for_each(|credential| credential.password = secret("q"))),
            hash(|work| work.registry = None),
        ];
        for (number, other) in others.iter().enumerate() {
            assert_ne!(other, &before, "change {number}");
        }
    }
}
