//! The projects' git repositories: bare, in a folder that a git server can serve. Serves nothing itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::sample::Sample;

/// A commit that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// 40 hex digits.
    pub sha: String,
    /// The branch whose head it was.
    pub branch: String,
}

impl Commit {
    /// `sha-<7 hex>`, as CI tags images.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("sha-{}", &self.sha[..7])
    }
}

/// All repositories of a world.
#[derive(Debug)]
pub struct Git {
    root: PathBuf,
}

impl Git {
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root })
    }

    /// The folder with `<owner>/<repository>.git`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bare repository of a project, there or not.
    #[must_use]
    pub fn repository(&self, sample: &Sample) -> PathBuf {
        self.root.join(sample.owner()).join(format!("{}.git", sample.repository()))
    }

    /// Commits the sample's files as they are now on its branch: the first time in a new repository, later as an
    /// update.
    ///
    /// # Errors
    /// When git fails.
    pub fn publish(&self, sample: &Sample) -> Result<Commit> {
        let repository = self.repository(sample);
        if !repository.exists() {
            fs::create_dir_all(repository.parent().context("a repository has an owner")?)?;
            git(Command::new("git")
                .args(["init", "--quiet", "--bare", "--initial-branch", sample.branch()])
                .arg(&repository))?;
            // As GitHub: any commit can be fetched by its id.
            git(Command::new("git").arg("-C").arg(&repository).args([
                "config",
                "uploadpack.allowAnySHA1InWant",
                "true",
            ]))?;
        }
        let tree = tempfile::tempdir()?;
        sample.write(tree.path())?;
        let run = |arguments: &[&str]| {
            git(Command::new("git")
                .arg("--git-dir")
                .arg(&repository)
                .arg("--work-tree")
                .arg(tree.path())
                .args(arguments))
        };
        run(&["add", "--all", "--force"])?;
        run(&["commit", "--quiet", "--allow-empty", "--message", "Work of the day"])?;
        Ok(Commit { sha: run(&["rev-parse", "HEAD"])?, branch: sample.branch().to_owned() })
    }
}

impl Git {
    /// As [`Git::publish`], but the branch forgets its last commit: history is rewritten and pushed by force.
    ///
    /// # Errors
    /// When git fails, or there is nothing to forget.
    pub fn publish_by_force(&self, sample: &Sample) -> Result<Commit> {
        let repository = self.repository(sample);
        // Onto what stood before the last commit, or onto a history of its own.
        let run = |arguments: &[&str]| git(Command::new("git").arg("--git-dir").arg(&repository).args(arguments));
        let head = format!("refs/heads/{}", sample.branch());
        match run(&["rev-parse", "-q", "--verify", &format!("{head}^")]) {
            Ok(before) => run(&["update-ref", &head, &before])?,
            Err(_) => run(&["update-ref", "-d", &head])?,
        };
        self.publish(sample)
    }
}

/// Runs git without anything of this machine's configuration.
fn git(command: &mut Command) -> Result<String> {
    command
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "Sample"), ("GIT_AUTHOR_EMAIL", "sample@example.com")])
        .envs([("GIT_COMMITTER_NAME", "Sample"), ("GIT_COMMITTER_EMAIL", "sample@example.com")]);
    let output = command.output().context("starting git")?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
