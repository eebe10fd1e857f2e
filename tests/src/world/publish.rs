//! Publishing projects in a world: what their own CI would leave in git and in the registry.

use anyhow::Result;

use super::{Commit, Image, Module, Sample, Variant, World};

impl World {
    /// Puts a project's image on ghcr.io under `repository:tag` (`acme/shop-backend`) and returns its digest.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn push_image(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        self.ghcr.put(repository, tag, image)
    }

    /// What the project's CI would leave: a commit, and working images of it tagged `sha-<7 hex>` and `latest`, with the
    /// labels of `docker/metadata-action`.
    ///
    /// # Errors
    /// When git or the registry's storage fails.
    pub fn publish(&self, sample: &Sample) -> Result<Commit> {
        self.publish_variant(sample, Variant::Healthy)
    }

    /// As [`World::publish`], with a backend that behaves as `variant`; the other modules work.
    ///
    /// # Errors
    /// As [`World::publish`].
    pub fn publish_variant(&self, sample: &Sample, variant: Variant) -> Result<Commit> {
        let commit = self.git.publish(sample)?;
        let source = format!("https://github.com/{}/{}", sample.owner(), sample.repository());
        for &module in sample.modules() {
            let variant = if module == Module::Backend { variant } else { Variant::Healthy };
            let image = Image::module(module, variant, Some(&commit.sha))
                .label("org.opencontainers.image.source", &source)
                .label("org.opencontainers.image.revision", &commit.sha);
            for tag in [commit.tag().as_str(), "latest"] {
                self.push_image(&sample.image(module), tag, &image)?;
            }
        }
        Ok(commit)
    }
}
