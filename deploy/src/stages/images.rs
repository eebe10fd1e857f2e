//! Which image each module runs: asked of the registry with the credential that the server will pull with, before
//! anything on the server is touched. A registry that doesn't answer isn't an error here: the server's own pull decides then.

use std::collections::BTreeMap;

use slipway_protocol::ErrorCode;
use tokio::task::JoinSet;

use crate::project::image_tag;
use crate::project::registry::ReleaseImage;
use crate::{Attempt, StageError};

/// The images of a release.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// The references in `.env`, by variable.
    pub references: BTreeMap<String, String>,
    /// Their digests, where the registry gave them.
    pub digests: BTreeMap<String, String>,
}

impl Images {
    /// The same images under the references that `env` has for them.
    pub(super) fn with_references(mut self, env: &BTreeMap<String, String>) -> Self {
        for (name, reference) in &mut self.references {
            if let Some(present) = env.get(name) {
                reference.clone_from(present);
            }
        }
        self
    }
}

impl Attempt {
    /// Finds the image of each variable; `wanted` gives the image's name in the registry.
    ///
    /// # Errors
    /// `image-not-found` or `registry-credential-refused`.
    pub(super) async fn images(&self, wanted: BTreeMap<String, String>) -> Result<Images, StageError> {
        let repository = &self.work.request.repository;
        let host = self.image_registry().as_str();
        let mut asking = JoinSet::new();
        let mut images = Images::default();
        for (name, image) in wanted {
            let own = format!("{host}/{image}:{}", image_tag::of_commit(&repository.commit));
            images.references.insert(name.clone(), own);
            let (registry, host) = (self.registry().clone(), host.to_owned());
            let (commit, branch) = (repository.commit.clone(), repository.branch.clone());
            asking.spawn(async move { (name, registry.find(&host, &image, &commit, &branch).await) });
        }
        while let Some(answer) = asking.join_next().await {
            let (name, found) = answer.map_err(|_| StageError::new(ErrorCode::InternalError, "a look-up broke off"))?;
            match found {
                Ok(ReleaseImage { reference, digest }) => {
                    images.references.insert(name.clone(), reference);
                    images.digests.insert(name, digest);
                }
                Err(error) if matches!(error.code, ErrorCode::RegistryUnavailable | ErrorCode::RegistryRateLimited) => {
                    tracing::warn!(image.variable = name, "left to the server's pull: {}", error.message);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(images)
    }
}
