//! What an attempt acts with: the settings, clients and places that its stages ask for.

use std::sync::atomic::Ordering;

use secrecy::SecretString;

use super::{Attempt, REPORT_TIME};
use crate::github::GithubClient;
use crate::project::registry::RegistryClient;
use crate::remote::places::{HttpsUrl, RegistryHost};
use crate::remote::ssh::Session;
use crate::{DeployerConfig, DeploymentWork, FrontDoor, RegistryCredential, RemotePath};

impl Attempt {
    pub(crate) fn config(&self) -> &DeployerConfig {
        &self.deployer.config
    }

    /// The server's front door, if it's to have one.
    #[must_use]
    pub fn front_door(&self) -> Option<&FrontDoor> {
        self.config().front_door.as_ref()?.for_server(self.work.target.front_door)
    }

    /// How long a script may take to reach its result, in seconds: less than the time after which it's killed.
    pub(crate) fn script_limit(&self) -> u64 {
        let all = self.config().command_timeout;
        (all - (all / 4).min(REPORT_TIME)).as_secs()
    }

    /// The connection to the server, if there is one that isn't known to be broken.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// The registry, asked with this project's credential.
    pub(crate) fn registry(&self) -> RegistryClient {
        self.deployer.registry.with_credential(self.work.registry.clone())
    }

    /// What is given to scripts that pull: `user:password`, or nothing.
    pub(crate) fn registry_login(&self) -> SecretString {
        let counts = !self.login_refused.load(Ordering::Relaxed);
        self.work.registry.as_ref().filter(|_| counts).map(RegistryCredential::login).unwrap_or_default()
    }

    pub(crate) fn github(&self) -> &GithubClient {
        &self.deployer.github
    }

    pub(crate) fn probe(&self) -> &reqwest::Client {
        &self.deployer.probe
    }

    pub(crate) fn deployer_input_hash(&self, work: &DeploymentWork) -> Vec<u8> {
        self.deployer.input_hash(work)
    }

    pub(crate) fn root(&self) -> &RemotePath {
        &self.deployer.root
    }

    pub(crate) fn git_url(&self) -> &HttpsUrl {
        &self.deployer.git_url
    }

    pub(crate) fn image_registry(&self) -> &RegistryHost {
        &self.deployer.image_registry
    }
}
