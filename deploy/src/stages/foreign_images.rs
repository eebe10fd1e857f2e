//! Images of others in the registry that projects' own images are in. The workers' credential may read every project's, and
//! a server may have them already: so one that isn't the project's own has to be readable for anybody, or for the
//! credential that came with the request.

use std::collections::BTreeSet;

use slipway_protocol::ErrorCode;

use super::images::MAX_IMAGES;
use crate::project::image_reference::ImageReference;
use crate::{Attempt, StageError};

impl Attempt {
    /// Checks the images that the project's services would run, as compose resolves them.
    ///
    /// # Errors
    /// `image-not-own` names the first that isn't for this project; those of the registry where it doesn't answer.
    pub(super) async fn check_foreign_images(&self, references: &[String]) -> Result<(), StageError> {
        let host = self.image_registry().as_str();
        let own = self.own_images();
        let foreign = find_foreign(references, host, own.as_str());
        if foreign.len() > MAX_IMAGES {
            let message = format!("the project runs {} images of others; {MAX_IMAGES} is the most", foreign.len());
            return Err(StageError::new(ErrorCode::ComposeInvalid, message));
        }
        let brought = self.work.registry.clone().filter(crate::RegistryCredential::is_the_projects);
        let registry = self.registry().with_credential(brought);
        for reference in foreign {
            let image = ImageReference::read(reference);
            let readable = image.is_plain() && registry.can_read(&image.repository, &image.manifest).await?;
            if !readable {
                let message = format!(
                    "{reference} isn't an image of {}, and isn't public: neither the workers' credential nor what other \
                     projects have pulled is for this project",
                    self.work.request.repository.name
                );
                return Err(StageError::new(ErrorCode::ImageNotOwn, message));
            }
        }
        Ok(())
    }
}

/// Those in the registry `host` whose names don't begin as the project's own, each once.
fn find_foreign<'a>(references: &'a [String], host: &str, own: &str) -> BTreeSet<&'a str> {
    let is_foreign = |reference: &&str| {
        let image = ImageReference::read(reference);
        let name = format!("{}/{}", image.host, image.repository);
        image.host == host && !image.is_official() && !name.starts_with(own)
    };
    references.iter().map(String::as_str).filter(is_foreign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_foreign_if_it_is_in_the_registry_and_not_the_repositorys() {
        let references = [
            "ghcr.io/acme/shop-backend:sha-0123456",
            "ghcr.io/acme/shop:1",
            "ghcr.io/bakery/api-backend@sha256:ab",
            "GHCR.IO/bakery/api-backend",
            "quay.io/bakery/api",
            "redis:7",
            "bakery/api",
        ]
        .map(str::to_owned);
        let of_ghcr = find_foreign(&references, "ghcr.io", "ghcr.io/acme/shop-");
        let expected = ["GHCR.IO/bakery/api-backend", "ghcr.io/acme/shop:1", "ghcr.io/bakery/api-backend@sha256:ab"];
        assert_eq!(of_ghcr, expected.into());
        let of_hub = find_foreign(&references, "docker.io", "docker.io/acme/shop-");
        assert_eq!(of_hub, ["bakery/api"].into(), "official images are everybody's");
    }
}
