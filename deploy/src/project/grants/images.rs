//! Whose images a project runs. What another owner keeps in the workers' registry is its own: the workers' credential would
//! get it, and so would a server that has it already, for whoever names it. Whether everybody may have it is the registry's
//! to say.

use serde_json::Value;

use super::allowance::Allowance;
use super::granted::Grants;
use super::refusal::{Refusal, Refusals};

const RULE: &str =
    "an image of another owner in the workers' registry is only for those whose it is, unless everybody may pull it";

/// An image of another owner in the workers' registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignImage {
    place: String,
    image: String,
    allowance: Allowance,
    /// The repository in the registry, `other/app`.
    pub repository: String,
    /// Its tag or digest.
    pub reference: String,
}

impl ForeignImage {
    /// Whether its parts are such that a registry can be asked for them.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let named = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(plain);
        self.repository.split('/').all(named) && self.reference.chars().all(|c| plain(c) || c == ':')
    }

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

/// The image, where it's another owner's and no operator allows it.
pub(super) fn foreign(grants: &Grants<'_>, place: &str, image: &str) -> Option<ForeignImage> {
    let (host, path) = image.split_once('/')?;
    let host = host.to_ascii_lowercase();
    if host.strip_suffix(":443").unwrap_or(&host) != grants.registry {
        return None;
    }
    let (name, digest) = path.split_once('@').map_or((path, None), |(name, digest)| (name, Some(digest)));
    let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
    let owner = grants.request.repository.name.owner().to_ascii_lowercase();
    if repository.split('/').next() == Some(owner.as_str()) {
        return None;
    }
    let allowance = Allowance::Image(format!("{}/{repository}", grants.registry));
    (!grants.allowances.contains(&allowance)).then(|| ForeignImage {
        place: place.to_owned(),
        image: image.to_owned(),
        allowance,
        repository: repository.to_owned(),
        reference: digest.unwrap_or(tag).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::project::grants::ServerFacts;
    use crate::project::real_compose::request;

    #[test]
    fn images_of_other_owners_in_the_workers_registry_are_told_from_all_others() {
        let request = request();
        let allowances = ["image:ghcr.io/proxies/traefik".parse().unwrap()];
        let grants = Grants {
            request: &request,
            directory: "/opt/services/corner-shop",
            registry: "ghcr.io",
            allowances: &allowances,
            server: &ServerFacts::default(),
            withheld: None,
        };
        let asked = |image| foreign(&grants, "service db", image).map(|f| format!("{} {}", f.repository, f.reference));
        for image in [
            "postgres:16",
            "redis",
            "acme-org/other",
            "ghcr.io/acme-org/corner.shop-backend:sha-0123456",
            "ghcr.io/acme-org/another",
            "quay.io/other/app:1",
            "ghcr.io/proxies/traefik:v3",
        ] {
            assert_eq!(asked(image), None, "{image}");
        }
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(asked("ghcr.io/other/app").as_deref(), Some("other/app latest"));
        assert_eq!(asked("GHCR.io:443/other/app:1").as_deref(), Some("other/app 1"));
        assert_eq!(asked(&format!("ghcr.io/a/b/c:1@{digest}")), Some(format!("a/b/c {digest}")));
        for image in ["ghcr.io/other/../app", "ghcr.io/other/a?b", "ghcr.io/other/app:a/b", "ghcr.io//app"] {
            assert!(!foreign(&grants, "service db", image).unwrap().is_plain(), "{image}");
        }
        let refusal = foreign(&grants, "service db", "ghcr.io/other/app:1").unwrap().refused();
        assert_eq!((refusal.place.as_str(), refusal.key.as_str()), ("service db", "image"));
        assert_eq!(refusal.allow.unwrap().to_string(), "image:ghcr.io/other/app");
    }
}
