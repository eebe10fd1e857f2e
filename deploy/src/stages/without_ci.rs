//! Stage secrets of a project whose pushes CI doesn't deploy: what an earlier deployment has written at GitHub for CI goes.
//! Who deploys pushes is decided in `secrets`, and what is on the server for CI is removed there.

use std::collections::BTreeSet;

use super::registry_secrets::is_registrys;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    /// Deletes those secrets that Slipway is known to have written, but for what the request brings for CI to push images
    /// with. `key_removed`: whether the server had something for CI until now; `taken_back`: what is deleted already.
    pub(super) async fn delete_ci_secrets(
        &mut self,
        key_removed: bool,
        taken_back: Vec<String>,
    ) -> Result<StageReport, StageError> {
        let (deleted, github) = if self.work.shares_repository {
            (Vec::new(), "left alone: another deployment of this repository uses them")
        } else {
            (self.delete_known_secrets().await?, "deleted")
        };
        let pushes_with = self.registry_secrets();
        self.work.github_digests.retain(|name, _| is_registrys(name));
        let mut digests = self.work.github_digests.clone();
        let written = if pushes_with.is_empty() {
            Vec::new()
        } else {
            let repository = &self.work.request.repository.name;
            let writing = self.github().put_secrets(repository, &pushes_with, &mut digests, &self.cancel);
            let written = self.work.lease.run_while_held(writing).await;
            self.work.github_digests = digests;
            written?.changed
        };
        let changed = key_removed || !deleted.is_empty() || !taken_back.is_empty() || !written.is_empty();
        let values = |names: Vec<String>| names.into_iter().map(serde_json::Value::from).collect::<Vec<_>>();
        Ok(StageReport::of(changed)
            .fact("deleted", values([deleted, taken_back].concat()))
            .fact("written", values(written))
            .fact("github", github))
    }

    async fn delete_known_secrets(&self) -> Result<Vec<String>, StageError> {
        let names = self.work.github_digests.keys().filter(|name| !is_registrys(name));
        let names: BTreeSet<String> = names.cloned().collect();
        // A project that never had any needs no permission for secrets.
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // GitHub can't compare fences, so only the lease's clock protects this.
        let deleting = self.github().delete_secrets(&self.work.request.repository.name, &names, &self.cancel);
        self.work.lease.run_while_held(deleting).await
    }
}
