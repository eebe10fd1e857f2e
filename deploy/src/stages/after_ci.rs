//! A push that CI's job has deployed before Slipway does: what runs already stays as it is, under the tags that CI moves,
//! since another name for the same image would have each container made anew. No I/O.

use std::collections::BTreeMap;

use slipway_protocol::names::CommitSha;
use slipway_protocol::{ProjectReady, PushDeployer};

use super::images::Images;
use crate::project::image_tag;

/// An image on the server, by the reference that `.env` has for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalImage {
    reference: String,
    /// The commit that it says it was made from.
    revision: String,
    /// `name@sha256:…`, as the registry knows it.
    digests: Vec<String>,
}

impl LocalImage {
    /// Out of what a script tells: the reference, then revision and digests, the revision perhaps empty.
    pub(super) fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (reference, revision) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { reference, revision, digests: words.map(str::to_owned).collect() })
    }

    fn is(&self, reference: &str, commit: &CommitSha, digest: &str) -> bool {
        self.reference == reference
            && self.revision == commit.as_str()
            && self.digests.iter().any(|own| own.split_once('@').is_some_and(|(_, own)| own == digest))
    }
}

/// Whether CI's job has put exactly those images there that the request's commit has, all of them.
pub(super) fn is_deployed(
    request: &ProjectReady,
    wanted: &Images,
    env: &BTreeMap<String, String>,
    local: &[LocalImage],
) -> bool {
    let commit = &request.repository.commit;
    let is_there = |name: &String| {
        let (Some(reference), Some(digest)) = (env.get(name), wanted.digests.get(name)) else { return false };
        !image_tag::is_fixed(reference) && local.iter().any(|image| image.is(reference, commit, digest))
    };
    request.repository.pushes_deployed_by == PushDeployer::Both
        && !wanted.references.is_empty()
        && wanted.references.keys().all(is_there)
}

/// Whether the images in `env` whose tags may move are all CI's, and here: then they are what was found for the commit.
pub(super) fn are_kept<'a>(
    request: &ProjectReady,
    mut references: impl Iterator<Item = &'a String>,
    own: &str,
) -> bool {
    request.repository.pushes_deployed_by == PushDeployer::Both
        && references.all(|reference| image_tag::is_fixed(reference) || reference.starts_with(own))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const LATEST: &str = "ghcr.io/acme/shop-backend:latest";
    const DIGEST: &str = "sha256:aa";

    /// Whether it counts as deployed with this image on the server, `.env`'s reference and what the registry has.
    fn deployed(by: PushDeployer, local: &str, reference: &str, digest: &str) -> bool {
        let mut request = super::super::resume::tests::work().request;
        request.repository.pushes_deployed_by = by;
        request.repository.commit = COMMIT.parse().unwrap();
        let map = |value: &str| BTreeMap::from([("BACKEND_IMAGE".to_owned(), value.to_owned())]);
        let references = map("ghcr.io/acme/shop-backend:sha-0123456");
        let wanted = Images { references, digests: map(digest), ..Images::default() };
        is_deployed(&request, &wanted, &map(reference), &[LocalImage::read(local).unwrap()])
    }

    #[test]
    fn only_the_very_images_of_the_commit_under_cis_tags_count_as_deployed() {
        let there = format!("{LATEST} {COMMIT} ghcr.io/acme/other@sha256:bb ghcr.io/acme/shop-backend@sha256:aa");
        assert!(deployed(PushDeployer::Both, &there, LATEST, DIGEST));
        assert!(!deployed(PushDeployer::CiJob, &there, LATEST, DIGEST), "nobody asked for that");
        assert!(!deployed(PushDeployer::Both, &there, LATEST, "sha256:cc"), "the registry has another one");
        assert!(!deployed(PushDeployer::Both, &there, "ghcr.io/acme/shop-backend:main", DIGEST));
        let fixed = there.replace("latest", "sha-0123456");
        assert!(!deployed(PushDeployer::Both, &fixed, "ghcr.io/acme/shop-backend:sha-0123456", DIGEST));
        let other = there.replace(COMMIT, &"f".repeat(40));
        assert!(!deployed(PushDeployer::Both, &other, LATEST, DIGEST), "nothing proves the commit");
        assert!(!deployed(PushDeployer::Both, &format!("{LATEST}  "), LATEST, DIGEST), "it says nothing of itself");
        assert_eq!(LocalImage::read(""), None);
    }

    #[test]
    fn tags_that_move_are_pulled_anew_unless_ci_has_left_them() {
        let mut request = super::super::resume::tests::work().request;
        let pinned = "redis@sha256:0123456789012345678901234567890123456789012345678901234567890123".to_owned();
        let references = [LATEST.to_owned(), pinned];
        let own = "ghcr.io/acme/shop-";
        assert!(!are_kept(&request, references.iter(), own));
        request.repository.pushes_deployed_by = PushDeployer::Both;
        assert!(are_kept(&request, references.iter(), own));
        assert!(!are_kept(&request, ["redis:7".to_owned()].iter(), own), "somebody else's");
    }
}
