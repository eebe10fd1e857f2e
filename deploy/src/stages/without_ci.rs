//! Stage secrets of a project whose pushes CI doesn't deploy: what an earlier deployment has written at GitHub for CI goes.
//! Who deploys pushes is decided in `secrets`, and what is on the server for CI is removed there.

use std::collections::BTreeSet;

use crate::{Attempt, StageError, StageReport};

impl Attempt {
    /// Deletes those secrets that Slipway is known to have written. `key_removed`: whether the server had something for
    /// CI until now.
    pub(super) async fn delete_ci_secrets(&mut self, key_removed: bool) -> Result<StageReport, StageError> {
        let (deleted, github) = if self.work.shares_repository {
            (Vec::new(), "left alone: another deployment of this repository uses them")
        } else {
            (self.delete_known_secrets().await?, "deleted")
        };
        self.work.github_digests.clear();
        let changed = key_removed || !deleted.is_empty();
        let deleted: Vec<_> = deleted.into_iter().map(serde_json::Value::from).collect();
        Ok(StageReport::of(changed).fact("deleted", deleted).fact("github", github))
    }

    async fn delete_known_secrets(&self) -> Result<Vec<String>, StageError> {
        let names: BTreeSet<String> = self.work.github_digests.keys().cloned().collect();
        // A project that never had any needs no permission for secrets.
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // GitHub can't compare fences, so only the lease's clock protects this.
        let deleting = self.github().delete_secrets(&self.work.request.repository.name, &names, &self.cancel);
        self.work.lease.run_while_held(deleting).await
    }
}
