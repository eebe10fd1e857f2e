//! What a branch, tag or commit is in a bare repository, by asking git.
//!
//! Deliberately not here: whether the caller may know; the endpoint that asked decides that.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::cgi;
use super::hosted_repository::RepoRef;
use super::shared::SharedGithub;

/// What a reference is in the bare repository.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub sha: Option<String>,
    /// Whether it lacks commits of the default branch.
    pub behind: bool,
}

/// Looks a branch, tag or commit up. Expressions such as `main~1` are no references to GitHub.
pub(super) async fn find(shared: &SharedGithub, repo: &RepoRef, reference: &str) -> Found {
    let located = shared.state().repository(repo).map(|found| (found.full_name(), found.default_branch.clone()));
    let Some((full_name, default_branch)) = located else {
        return Found::default();
    };
    let directory = shared.git_root.join(format!("{full_name}.git"));
    if reference.is_empty() || reference.contains(['~', '^', ':', '@', '{', ' ', '\\', '*', '?', '[']) {
        return Found::default();
    }
    let commit = format!("{reference}^{{commit}}");
    let Some(sha) = ask(&directory, &["rev-parse", "--verify", "--quiet", "--end-of-options", &commit]).await else {
        return Found::default();
    };
    let default = format!("refs/heads/{default_branch}");
    let behind = ask(&directory, &["merge-base", "--is-ancestor", &default, &sha]).await.is_none();
    Found { sha: Some(sha), behind }
}

/// git's answer, or `None` when it says no.
async fn ask(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::from(cgi::clean_git())
        .arg("-c")
        .arg("safe.directory=*")
        .arg("--git-dir")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
