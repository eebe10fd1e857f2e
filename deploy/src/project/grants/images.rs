//! Whose images a project runs. What another repository keeps in the workers' registry is its own: the workers' credential
//! would get it, and so would a server that has it already, for whoever names it. Whether everybody may have it is the
//! registry's to say.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::Grants;
use super::refusal::{Refusal, Refusals};
use crate::project::image_reference::ImageReference;
use crate::project::image_tag::{image_part, of_commit};

const RULE: &str = "an image of another repository in the workers' registry is only for those whose it is, unless everybody may pull it, or the credential that came with the request (`registry`)";

/// The bot's image, which the template's compose files require of projects without one as well.
const ALWAYS_OWN: &str = "tg-bot";

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
    let is_own = || name.strip_prefix(grants.own_images).is_some_and(|rest| is_own(grants, rest, &reference.manifest));
    if host != grants.registry || reference.is_official() || is_own() {
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

/// Whether what follows a repository's name is a module of it. The images of `acme/shop-admin` begin as those of `acme/shop`
/// do, and have one hyphen more; so of names with a hyphen only those are own that the request has, that the template
/// requires anyhow, or that CI has tagged with the very commit.
fn is_own(grants: &Grants<'_>, rest: &str, manifest: &str) -> bool {
    let is_module = || grants.request.modules.iter().any(|module| image_part(module.as_str()) == rest);
    !rest.contains('/')
        && (!rest.contains('-')
            || rest == ALWAYS_OWN
            || is_module()
            || manifest == of_commit(&grants.request.repository.commit))
}

/// Whether Docker could take it for the id of an image that the server has, whoever's it is: `sha256:` and any beginning of
/// the digits, or such a beginning alone.
pub(super) fn is_id(image: &str) -> bool {
    let reference = ImageReference::read(image);
    let name = reference.repository.strip_prefix("library/").unwrap_or(&reference.repository);
    let is_bare = !image.contains([':', '@']);
    reference.is_official() && (name == "sha256" || (is_bare && name.bytes().all(|b| b.is_ascii_hexdigit())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use slipway_protocol::names::ServiceName;

    use super::*;
    use crate::project::compose_program::request;
    use crate::project::grants::ServerFacts;

    #[test]
    fn images_of_other_repositories_in_the_workers_registry_are_told_from_others() {
        let mut request = request();
        request.modules.insert(ServiceName::new("price_watcher").unwrap());
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
            "ghcr.io/acme-org/corner.shop-frontend:latest",
            "ghcr.io/acme-org/corner.shop-tg-bot:latest",
            "ghcr.io/acme-org/corner.shop-price-watcher:latest",
            "ghcr.io/acme-org/corner.shop-more-workers:sha-0123456",
            "quay.io/other/app:1",
            "ghcr.io/proxies/traefik:v3",
        ] {
            assert_eq!(asked(image), None, "{image}");
        }
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(asked("ghcr.io/other/app").as_deref(), Some("other/app latest"));
        assert_eq!(asked("ghcr.io/acme-org/another").as_deref(), Some("acme-org/another latest"));
        let of_another = "ghcr.io/acme-org/corner.shop-admin-backend";
        for manifest in [":latest", ":sha-7654321", &format!(":sha-0123456@{digest}")] {
            assert!(foreign(&grants, "service db", &format!("{of_another}{manifest}")).is_some(), "{manifest}");
        }
        assert!(asked("ghcr.io/acme-org/corner.shop-x/y").is_some());
        assert_eq!(asked("GHCR.io:443/other/app:1").as_deref(), Some("other/app 1"));
        assert_eq!(asked(&format!("ghcr.io/a/b/c:1@{digest}")), Some(format!("a/b/c {digest}")));
        for image in ["ghcr.io/other/../app", "ghcr.io/other/a?b", "ghcr.io/other/app:a/b", "ghcr.io//app"] {
            assert!(!foreign(&grants, "service db", image).unwrap().reference.is_plain(), "{image}");
        }
        let refusal = foreign(&grants, "service db", "ghcr.io/other/app:1").unwrap().refused();
        assert_eq!((refusal.place.as_str(), refusal.key.as_str()), ("service db", "image"));
        assert_eq!(refusal.allow.unwrap().to_string(), "image:ghcr.io/other/app");
    }

    #[test]
    fn what_docker_may_take_for_an_id_is_told_from_names() {
        let digits = "0123456789abcdef".repeat(4);
        for id in ["sha256:8", "a1", "deadbeef0123", "DEAD", "docker.io/library/sha256:8", "docker.io/a1", &digits] {
            assert!(is_id(id), "{id}");
        }
        assert!(is_id(&format!("sha256:{digits}")));
        for name in
            ["redis", "cafe:1", "a1/b2", "ghcr.io/a/b", "ghcr.io/acme/sha256:8", &format!("cafe@sha256:{digits}")]
        {
            assert!(!is_id(name), "{name}");
        }
    }
}
