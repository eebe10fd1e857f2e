//! Which image each module runs: asked of the registry with the credential that the server will pull with, before
//! anything on the server is touched. A registry that doesn't answer isn't an error here: the server's own pull decides then.
//! A rollback runs the very images that its version ran, as long as they can be had.

use std::collections::{BTreeMap, BTreeSet};

use slipway_protocol::{ErrorCode, Stage};
use tokio::task::JoinSet;

use crate::project::image_tag::{self, OwnImages};
use crate::project::registry::{RecordedImage, ReleaseImage};
use crate::{Attempt, StageError};

/// More aren't asked for: everybody's limit at the registry is used up by it.
pub const MAX_IMAGES: usize = 100;

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
    pub(super) fn own_images(&self) -> OwnImages {
        OwnImages::new(self.image_registry(), &self.work.request.repository.name)
    }

    /// Names of the images that the version rolled back to ran, one a line.
    pub(super) fn recorded_images(&self) -> String {
        let (host, repository) = (self.image_registry().as_str(), &self.work.request.repository.name);
        let recorded = self.work.images.iter().filter_map(|(variable, digest)| {
            let image = image_tag::image_name(repository, variable.strip_suffix("_IMAGE")?);
            Some(format!("{host}/{image}@{digest}\n"))
        });
        recorded.collect()
    }

    /// Finds the image of each variable; `wanted` gives the image's name in the registry, `local` those of
    /// [`Self::recorded_images`] that the server has.
    ///
    /// # Errors
    /// `image-not-found` or `registry-credential-refused`.
    pub(super) async fn images(
        &self,
        wanted: BTreeMap<String, String>,
        local: &BTreeSet<String>,
    ) -> Result<Images, StageError> {
        let repository = &self.work.request.repository;
        let host = self.image_registry().as_str();
        if wanted.len() > MAX_IMAGES {
            let message = format!("the project wants {} images of its own; {MAX_IMAGES} is the most", wanted.len());
            return Err(StageError::new(ErrorCode::ComposeInvalid, message));
        }
        let registry = self.registry();
        let mut asking = JoinSet::new();
        let mut images = Images::default();
        for (name, image) in wanted {
            let own = format!("{host}/{image}:{}", image_tag::of_commit(&repository.commit));
            let recorded = self.work.images.get(&name).map(|digest| RecordedImage {
                digest: digest.clone(),
                on_server: local.contains(&format!("{host}/{image}@{digest}")),
            });
            // Where nobody answers, the image of then or none.
            let digest = recorded.as_ref().map(|recorded| format!("@{}", recorded.digest)).unwrap_or_default();
            images.references.insert(name.clone(), own + &digest);
            let (registry, host) = (registry.clone(), host.to_owned());
            let (commit, branch) = (repository.commit.clone(), repository.branch.clone());
            asking.spawn(async move {
                let found = match &recorded {
                    Some(recorded) => registry.find_recorded(&host, &image, &commit, &branch, recorded).await,
                    None => registry.find(&host, &image, &commit, &branch).await,
                };
                (name, found)
            });
        }
        while let Some(answer) = asking.join_next().await {
            let (name, found) = answer.map_err(|_| StageError::new(ErrorCode::InternalError, "a look-up broke off"))?;
            match found {
                Ok(ReleaseImage { reference, digest }) => {
                    if let Some(recorded) = self.work.images.get(&name).filter(|recorded| **recorded != digest) {
                        let line = format!(
                            "warning: {recorded}, which ran as {name} in the version rolled back to, is gone from the \
                             registry and the server: {reference} runs in its place"
                        );
                        self.report_line(Stage::Env, &line);
                    }
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
