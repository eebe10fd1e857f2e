//! Names and tags of the projects' images: `<registry>/<owner>/<repository>-<module>:sha-<7>`, as CI pushes them. Which
//! images a registry really has is asked in `registry`.

use slipway_protocol::names::{BranchName, CommitSha, RepositoryName};

use crate::remote::places::RegistryHost;
use crate::remote::quote::ShellWord;

const COMMIT_PREFIX: &str = "sha-";
/// Between an image's name and its digest.
const DIGEST: &str = "@sha256:";
/// Longest tag that a registry takes.
const MAX_TAG: usize = 128;

/// The tag of a commit.
pub(crate) fn of_commit(commit: &CommitSha) -> String {
    format!("{COMMIT_PREFIX}{}", commit.short())
}

/// The tag of a branch, as image builders make one of its name.
pub(crate) fn of_branch(branch: &BranchName) -> String {
    branch.as_str().replace('/', "-").chars().take(MAX_TAG).collect()
}

/// The name of a module's images in the registry, in lower case. Variables are underscored, image names hyphenated.
pub(crate) fn image_name(repository: &RepositoryName, module: &str) -> String {
    format!("{repository}-{}", image_part(module)).to_ascii_lowercase()
}

/// What of an image's name is the module's.
pub(crate) fn image_part(module: &str) -> String {
    module.replace('_', "-").to_ascii_lowercase()
}

/// What the names of a repository's images begin with, and nobody else's.
pub(crate) struct OwnImages(String);

impl OwnImages {
    pub(crate) fn new(registry: &RegistryHost, repository: &RepositoryName) -> Self {
        Self(format!("{}/{}", registry.as_str(), image_name(repository, "")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Made of validated names alone.
impl ShellWord for OwnImages {
    fn word(&self) -> String {
        self.0.clone()
    }
}

/// Whether a reference always means the same image: a digest and the tag of a commit never move, any other tag may.
pub(crate) fn is_fixed(reference: &str) -> bool {
    is_pinned(reference) || reference.contains(&format!(":{COMMIT_PREFIX}"))
}

/// Whether a reference names a digest.
pub(crate) fn is_pinned(reference: &str) -> bool {
    reference.contains(DIGEST)
}

/// Whether a reference is the tag of `commit`, which may be text that isn't a commit.
pub(crate) fn is_of_commit(reference: &str, commit: &str) -> bool {
    commit.get(..7).is_some_and(|short| reference.ends_with(&format!(":{COMMIT_PREFIX}{short}")))
}
