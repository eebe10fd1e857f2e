//! Which image each module runs: asked of the registry with the credential that the server will pull with, before
//! anything on the server is touched. A registry that doesn't answer isn't an error here: the server's own pull decides then.
//! A rollback runs the very images that its version ran, as long as they can be had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use slipway_protocol::{ErrorCode, Stage};
use tokio::task::JoinSet;

use crate::project::image_reference::ImageReference;
use crate::project::image_tag::{self, OwnImages};
use crate::project::registry::{ImagePlatforms, RecordedImage, RegistryClient, ReleaseImage};
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
    /// What they are built for, where the registry told it and the server was asked what it is.
    pub platforms: BTreeMap<String, ImagePlatforms>,
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
        let asks_platforms = self.server_platforms().is_some();
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
                let is_here = recorded.is_some_and(|recorded| recorded.on_server);
                let platforms = match &found {
                    // Not to know it is no fault: the server's pull finds out.
                    Ok(found) if asks_platforms && !is_here => registry.platforms(&image, &found.digest).await.ok(),
                    _ => None,
                };
                (name, found, platforms.unwrap_or_default())
            });
        }
        while let Some(answer) = asking.join_next().await {
            let (name, found, platforms) =
                answer.map_err(|_| StageError::new(ErrorCode::InternalError, "a look-up broke off"))?;
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
                    images.platforms.insert(name.clone(), platforms);
                    images.digests.insert(name, digest);
                }
                Err(error) if matches!(error.code, ErrorCode::RegistryUnavailable | ErrorCode::RegistryRateLimited) => {
                    tracing::warn!(image.variable = name, "left to the server's pull: {}", error.message);
                }
                Err(error) => return Err(self.explain_absent(error).await),
            }
        }
        self.note_login(&registry);
        Ok(images)
    }

    /// CI keeps images under the name that the repository has by then.
    async fn explain_absent(&self, error: StageError) -> StageError {
        let asked = &self.work.request.repository.name;
        if error.code != ErrorCode::ImageNotFound {
            return error;
        }
        match self.unless_cancelled(self.github().present_name(asked)).await {
            Ok(present) if !present.as_str().eq_ignore_ascii_case(asked.as_str()) => {
                let message = format!("{asked} is {present} on GitHub by now; {}", error.message);
                StageError { code: ErrorCode::RepositoryMoved, message, ..error }
            }
            _ => error,
        }
    }

    /// Notes whether the credential counts: one that is refused, though anybody may have the images, isn't given to the
    /// server, whose pulls would fail with it.
    fn note_login(&self, registry: &RegistryClient) {
        let Some(refused) = registry.passed_over() else { return };
        if !self.login_refused.swap(true, Ordering::Relaxed) {
            let line = format!("warning: {}; the images are public and come without it", refused.message);
            self.report_line(Stage::Env, &line);
        }
    }

    /// As [`Self::note_login`], by one image of the release, where stage env hasn't asked in this attempt.
    pub(super) async fn try_login(&self, image: &str) {
        let reference = ImageReference::read(image);
        if self.work.registry.is_none() || self.left.finished.contains_key(&Stage::Env) || !reference.is_plain() {
            return;
        }
        let registry = self.registry();
        // What is wrong with the image, the pull says.
        if registry.can_read(&reference.repository, &reference.manifest).await.is_ok() {
            self.note_login(&registry);
        }
    }
}
