//! The registry's secrets in a repository, with which its CI pushes images. Slipway writes them only where the project's
//! request brought the credential for that (`for_ci`), and takes back what it has written: nobody else's credential may
//! stand in a repository.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use slipway_protocol::Stage;

use crate::{Attempt, StageError};

/// What CI pushes images with. Without a credential for CI they are the repository's own.
pub(super) const REGISTRY_SECRETS: [&str; 3] = ["REGISTRY_PASSWORD", "REGISTRY_URL", "REGISTRY_USER"];
/// Stands among the digests of GitHub's secrets while those above are what a request brought. Versions before wrote the
/// workers' credential, and have no such entry.
const OF_REQUEST: &str = "registry secrets of the request";
/// Written once, right before the registry's secrets, by every version that wrote the workers' credential.
const WRITTEN_BEFORE: &str = "PROJECT_NAME";

/// Whether a name among the digests is about the registry's secrets.
pub(super) fn is_registrys(name: &str) -> bool {
    name == OF_REQUEST || REGISTRY_SECRETS.contains(&name)
}

impl Attempt {
    /// The registry's secrets that the repository is to have.
    pub(crate) fn registry_secrets(&self) -> BTreeMap<String, SecretString> {
        let Some(credential) = self.work.registry.as_ref().filter(|credential| credential.is_for_ci()) else {
            return BTreeMap::new();
        };
        let values = [
            credential.password.clone(),
            SecretString::from(self.image_registry().as_str().to_owned()),
            SecretString::from(credential.username.clone()),
        ];
        REGISTRY_SECRETS.map(str::to_owned).into_iter().zip(values).collect()
    }

    /// Whether what Slipway knows of the registry's secrets is a request's.
    pub(super) fn wrote_registry_secrets(&self) -> bool {
        self.work.github_digests.contains_key(OF_REQUEST)
    }

    /// Forgets what GitHub is known to hold, but not whose the registry's secrets are.
    pub(super) fn forget_github_digests(&mut self) {
        self.work.github_digests.retain(|name, _| name == OF_REQUEST);
    }

    /// Takes back what an earlier request brought for CI, and what versions before have written, unless this request
    /// brings something in their place. Gives the names of what was deleted.
    pub(super) async fn take_back_registry_secrets(&mut self) -> Result<Vec<String>, StageError> {
        let wanted = !self.registry_secrets().is_empty();
        let of_request = self.wrote_registry_secrets();
        if wanted {
            self.work.github_digests.insert(OF_REQUEST.to_owned(), "yes".to_owned());
            return Ok(Vec::new());
        }
        let digests = &self.work.github_digests;
        let written: BTreeSet<String> = REGISTRY_SECRETS
            .into_iter()
            .filter(|name| of_request || digests.contains_key(*name))
            .map(str::to_owned)
            .collect();
        if written.is_empty() {
            return Ok(Vec::new());
        }
        let shared = of_request && self.work.shares_repository;
        let deleted = if shared { Vec::new() } else { self.delete_registry_secrets(&written, of_request).await? };
        self.work.github_digests.retain(|name, _| name != OF_REQUEST && !written.contains(name));
        if !of_request {
            self.warn_of_registry_secrets(&written, &deleted);
        }
        Ok(deleted)
    }

    /// What a version before has written goes only as long as nobody has put something else in its place since.
    async fn delete_registry_secrets(
        &self,
        written: &BTreeSet<String>,
        of_request: bool,
    ) -> Result<Vec<String>, StageError> {
        let repository = &self.work.request.repository.name;
        let deleting = async {
            let names = if of_request {
                written.clone()
            } else {
                self.github().find_secrets_written_after(repository, WRITTEN_BEFORE, written, &self.cancel).await?
            };
            self.github().delete_secrets(repository, &names, &self.cancel).await
        };
        self.work.lease.run_while_held(deleting).await
    }

    fn warn_of_registry_secrets(&self, written: &BTreeSet<String>, deleted: &[String]) {
        let left: Vec<&str> = written.iter().filter(|name| !deleted.contains(name)).map(String::as_str).collect();
        if !deleted.is_empty() {
            let line = format!(
                "warning: {} were removed from the repository: Slipway once wrote the workers' own credential there. CI that \
                 pushes with them needs ones that may push",
                deleted.join(", ")
            );
            self.report_line(Stage::Secrets, &line);
        }
        if !left.is_empty() {
            let line = format!(
                "warning: {} were once written by Slipway, with a credential that may only read, and were perhaps changed \
                 since: they are left as they are; put ones in their place that may push, or delete them",
                left.join(", ")
            );
            self.report_line(Stage::Secrets, &line);
        }
    }
}
