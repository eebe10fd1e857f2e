//! Which commit a container runs, as far as that is proven: by its image's own label, by the image that Slipway has pinned
//! for a commit, and by what its page says. CI's job changes images and nothing else, so that neither the checkout nor the
//! label that a deployment has written tell it. No I/O.

use std::collections::BTreeMap;

use serde::Deserialize;
use slipway_protocol::names::{CommitSha, RepositoryName};

use crate::project::image_tag;
use crate::remote::output::ScriptOutput;

/// A container of the project: service, whether it runs, its image's id, the reference to it, the commit that a
/// deployment has written upon it, host ports.
#[derive(Debug, Deserialize)]
struct Told(String, bool, String, String, String, Vec<String>);

/// What an image says of itself: id, revision, source.
#[derive(Debug, Deserialize)]
struct ImageLabels(String, String, String);

/// A container of the project, and the commit that its image proves.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContainerOrigin {
    pub service: String,
    pub runs: bool,
    pub port: Option<u16>,
    pub commit: Option<CommitSha>,
}

/// The origins of the project's containers, out of what `tell_origins` has told.
pub(super) fn read_origins(output: &ScriptOutput, repository: &RepositoryName) -> Vec<ContainerOrigin> {
    let images = output.values("image_origin").iter().filter_map(|line| serde_json::from_str(line).ok());
    let revisions: BTreeMap<String, CommitSha> = images
        .filter(|ImageLabels(_, _, source)| source.is_empty() || is_of_repository(source, repository))
        .filter_map(|ImageLabels(id, revision, _)| Some((id, revision.parse().ok()?)))
        .collect();
    let containers = output.values("container_origin").iter().filter_map(|line| serde_json::from_str(line).ok());
    let origin = |Told(service, runs, id, reference, written, ports): Told| {
        // That a deployment has written it counts for the very image that it had chosen.
        let chosen = image_tag::is_of_commit(&reference, &written) || image_tag::is_pinned(&reference);
        let commit = written.parse().ok().filter(|_| chosen).or_else(|| revisions.get(&id).cloned());
        ContainerOrigin { service, runs, port: ports.iter().find_map(|port| port.parse().ok()), commit }
    };
    containers.map(origin).collect()
}

/// The commit that serves, where the image proves `by_image` and the page names `by_page`, in full or its beginning.
/// `None` where one contradicts the other.
pub(super) fn join_proofs(by_image: Option<CommitSha>, by_page: Option<&str>) -> Option<CommitSha> {
    match (by_image, by_page) {
        (by_image, None) => by_image,
        (None, Some(page)) => page.parse().ok(),
        (Some(image), Some(page)) => Some(image).filter(|image| image.as_str().starts_with(page)),
    }
}

/// Whether an image's label `source` means this repository: labels are inherited from the image that it's built upon.
fn is_of_repository(source: &str, repository: &RepositoryName) -> bool {
    let path = source.trim_end_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).to_ascii_lowercase();
    path.ends_with(&format!("/{repository}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    const DEPLOYED: &str = "0123456789abcdef0123456789abcdef01234567";
    const PUSHED: &str = "fedcba9876543210fedcba9876543210fedcba98";

    fn proven(reference: &str, revision: &str, source: &str) -> Option<String> {
        let mut output = ScriptOutput::default();
        let lines = [
            format!(r#"m container_origin ["backend",true,"sha256:1","{reference}","{DEPLOYED}",["8080",""]]"#),
            r#"m container_origin ["redis",false,"sha256:2","redis:7-alpine","",[""]]"#.to_owned(),
            format!(r#"m image_origin ["sha256:1","{revision}","{source}"]"#),
            "m image_origin nonsense".to_owned(),
        ];
        for line in lines {
            assert_eq!(output.take_line("m", line.as_bytes()), None);
        }
        let repository = RepositoryName::new("Acme/Shop.git").expect("a repository");
        let [backend, redis] = read_origins(&output, &repository).try_into().expect("two containers");
        assert_eq!(redis, ContainerOrigin { service: "redis".to_owned(), runs: false, port: None, commit: None });
        assert_eq!((backend.runs, backend.port), (true, Some(8080)));
        backend.commit.map(|commit| commit.to_string())
    }

    #[test]
    fn the_image_that_was_chosen_for_a_commit_proves_it_and_so_does_its_own_label() {
        let source = "https://github.com/acme/shop.git.git/";
        assert_eq!(proven("ghcr.io/a/b-backend:sha-0123456", "", "").as_deref(), Some(DEPLOYED));
        assert_eq!(proven("ghcr.io/a/b-backend:main@sha256:ab", "", "").as_deref(), Some(DEPLOYED));
        assert_eq!(proven("ghcr.io/a/b-backend:latest", "", ""), None, "CI has replaced it");
        assert_eq!(proven("ghcr.io/a/b-backend:sha-fedcba9", "", ""), None, "somebody has replaced it");
        assert_eq!(proven("ghcr.io/a/b-backend:latest", PUSHED, source).as_deref(), Some(PUSHED));
        assert_eq!(proven("ghcr.io/a/b-backend:latest", PUSHED, "").as_deref(), Some(PUSHED));
        for others in
            ["https://github.com/acme/base", "https://github.com/my-acme/shop", "https://github.com/acme/shop"]
        {
            assert_eq!(proven("ghcr.io/a/b-backend:latest", PUSHED, others), None, "{others}");
        }
        assert_eq!(proven("ghcr.io/a/b-backend:latest", "v1.4", source), None);
    }

    #[test]
    fn an_image_and_a_page_that_contradict_each_other_prove_nothing() {
        let image = || PUSHED.parse::<CommitSha>().ok();
        assert_eq!(join_proofs(image(), None), image());
        assert_eq!(join_proofs(image(), Some(PUSHED)), image());
        assert_eq!(join_proofs(image(), Some(&PUSHED[..7])), image());
        assert_eq!(join_proofs(image(), Some(DEPLOYED)), None);
        assert_eq!(join_proofs(image(), Some(&DEPLOYED[..7])), None);
        assert_eq!(join_proofs(None, Some(PUSHED)), image());
        assert_eq!(join_proofs(None, Some(&PUSHED[..7])), None, "not a whole commit");
        assert_eq!(join_proofs(None, None), None);
    }
}
