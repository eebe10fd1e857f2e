//! Whose images a project runs. What another repository keeps in the workers' registry is its own: the workers' credential
//! would get it, and so would a server that has it already, for whoever names it. Whether everybody may have it is the
//! registry's to say.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::Grants;
use super::refusal::{Refusal, Refusals};
use crate::project::image_reference::ImageReference;

const RULE: &str = "an image of another repository in the workers' registry is only for those whose it is, unless everybody may pull it, or the credential that came with the request (`registry`)";

/// An image of another repository in the workers' registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignImage {
    place: String,
    image: String,
    allowance: Allowance,
    /// As the registry is asked for it.
    pub reference: ImageReference,
}

impl ForeignImage {
    /// Refused, since not everybody may have it.
    pub(crate) fn refused(&self) -> Refusal {
        let mut refusals = Refusals::new(&[]);
        refusals.unless_allowed(
            std::slice::from_ref(&self.allowance),
            &self.place,
            "image",
            &Value::from(self.image.as_str()),
            RULE,
        );
        refusals.into_found().remove(0)
    }
}

/// The image, where it's another repository's and no operator allows it.
pub(super) fn foreign(grants: &Grants<'_>, place: &str, image: &str) -> Option<ForeignImage> {
    let reference = ImageReference::read(image);
    let host = reference.host.strip_suffix(":443").unwrap_or(&reference.host);
    let name = format!("{host}/{}", reference.repository);
    if host != grants.registry || reference.is_official() || name.starts_with(grants.own_images) {
        return None;
    }
    let allowance = Allowance::Image(name);
    (!grants.allowances.contains(&allowance)).then(|| ForeignImage {
        place: place.to_owned(),
        image: image.to_owned(),
        allowance,
        reference,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::project::grants::ServerFacts;
    use crate::project::real_compose::request;

    #[test]
    fn images_of_other_repositories_in_the_workers_registry_are_told_from_others() {
        let request = request();
        let allowances = ["image:ghcr.io/proxies/traefik".parse().unwrap()];
        let alone = ServerFacts::default();
        let of_sample = Grants::of_sample(&request, "/opt/services/corner-shop", &alone);
        let grants = Grants { allowances: &allowances, ..of_sample };
        let asked = |image| {
            let found = foreign(&grants, "service db", image)?.reference;
            Some(format!("{} {}", found.repository, found.manifest))
        };
        for image in [
            "postgres:16",
            "redis",
            "acme-org/other",
            "ghcr.io/acme-org/corner.shop-backend:sha-0123456",
            "quay.io/other/app:1",
            "ghcr.io/proxies/traefik:v3",
        ] {
            assert_eq!(asked(image), None, "{image}");
        }
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(asked("ghcr.io/other/app").as_deref(), Some("other/app latest"));
        assert_eq!(asked("ghcr.io/acme-org/another").as_deref(), Some("acme-org/another latest"));
        assert_eq!(asked("GHCR.io:443/other/app:1").as_deref(), Some("other/app 1"));
        assert_eq!(asked(&format!("ghcr.io/a/b/c:1@{digest}")), Some(format!("a/b/c {digest}")));
        for image in ["ghcr.io/other/../app", "ghcr.io/other/a?b", "ghcr.io/other/app:a/b", "ghcr.io//app"] {
            assert!(!foreign(&grants, "service db", image).unwrap().reference.is_plain(), "{image}");
        }
        let refusal = foreign(&grants, "service db", "ghcr.io/other/app:1").unwrap().refused();
        assert_eq!((refusal.place.as_str(), refusal.key.as_str()), ("service db", "image"));
        assert_eq!(refusal.allow.unwrap().to_string(), "image:ghcr.io/other/app");
    }
}
