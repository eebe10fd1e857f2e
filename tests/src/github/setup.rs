//! What a test does to the stand-in.
//!
//! Deliberately not here: what a test reads from it; see `inspect`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::GitHub;
use super::cgi::clean_git;
use super::faults::PlantedFault;
use super::hosted_repository::{CommitStatus, HostedRepository, StoredSecret};
use super::limits::{Bucket, RateLimits};
use super::permissions::{Level, permissions};
use super::random::alphanumeric;
use super::state::{GithubState, Installation, OrganizationPolicy};
use super::tokens::{Token, TokenKind};

/// How a repository is to be.
#[derive(Debug, Clone)]
pub struct NewRepository {
    /// True by default.
    pub private: bool,
    /// `main` by default.
    pub default_branch: String,
}

impl Default for NewRepository {
    fn default() -> Self {
        Self { private: true, default_branch: "main".to_owned() }
    }
}

/// A personal access token to be issued.
#[derive(Debug, Clone)]
pub struct NewToken {
    kind: TokenKind,
    scopes: Vec<String>,
    repositories: Option<Vec<String>>,
    permissions: Vec<(String, Level)>,
    lifetime: Option<Duration>,
}

impl NewToken {
    /// Of the classic kind, for every repository its owner can reach.
    #[must_use]
    pub fn classic(scopes: &[&str]) -> Self {
        Self {
            kind: TokenKind::Classic,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            repositories: None,
            permissions: Vec::new(),
            lifetime: None,
        }
    }

    /// Fine-grained: for these `owner/name`s and with these permissions.
    #[must_use]
    pub fn fine_grained(repositories: &[&str], permissions: &[(&str, Level)]) -> Self {
        Self {
            kind: TokenKind::FineGrained,
            scopes: Vec::new(),
            repositories: Some(repositories.iter().map(|name| (*name).to_owned()).collect()),
            permissions: permissions.iter().map(|(name, level)| ((*name).to_owned(), *level)).collect(),
            lifetime: None,
        }
    }

    /// Without it the token has no end.
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }
}

/// Methods that take `owner/name` panic on the name of a repository that was never added: that is a mistake in the
/// test.
impl GitHub {
    /// Adds a repository, with an empty bare one on disk unless it is there already.
    ///
    /// # Errors
    /// When git can't make it.
    pub fn add_repository(&self, owner: &str, name: &str, new: &NewRepository) -> anyhow::Result<u64> {
        let directory = self.shared.git_root.join(owner).join(format!("{name}.git"));
        if !directory.exists() {
            let made = clean_git()
                .args(["init", "--quiet", "--bare", "--initial-branch", &new.default_branch])
                .arg(&directory)
                .output()
                .context("run git")?;
            ensure!(made.status.success(), "git init: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(self.shared.state().add_repository(owner, name, &new.default_branch, new.private))
    }

    /// Renames a repository, on disk as well; the old name redirects from now on.
    ///
    /// # Errors
    /// When the directory can't be moved.
    pub fn rename(&self, full_name: &str, new_name: &str) -> anyhow::Result<()> {
        let mut state = self.shared.state();
        let repository = named(&mut state, full_name);
        let (id, old) = (repository.id, repository.full_name());
        new_name.clone_into(&mut repository.name);
        let new = repository.full_name();
        let path = |name: &str| self.shared.git_root.join(format!("{name}.git"));
        std::fs::rename(path(&old), path(&new))?;
        state.former_names.insert(old.to_ascii_lowercase(), id);
        Ok(())
    }

    /// Gives a repository to another account, on disk as well; the old name redirects from now on.
    ///
    /// # Errors
    /// When the directory can't be moved.
    pub fn transfer(&self, full_name: &str, new_owner: &str) -> anyhow::Result<()> {
        let mut state = self.shared.state();
        let repository = named(&mut state, full_name);
        let (id, old) = (repository.id, repository.full_name());
        new_owner.clone_into(&mut repository.owner);
        let new = repository.full_name();
        std::fs::create_dir_all(self.shared.git_root.join(new_owner))?;
        let path = |name: &str| self.shared.git_root.join(format!("{name}.git"));
        std::fs::rename(path(&old), path(&new))?;
        state.former_names.insert(old.to_ascii_lowercase(), id);
        for installation in state.installations.values_mut() {
            installation
                .repositories
                .retain(|held| *held != id || installation.account.eq_ignore_ascii_case(new_owner));
        }
        Ok(())
    }

    /// Gives an organization a rule, or takes its rule away.
    pub fn set_policy(&self, account: &str, policy: Option<OrganizationPolicy>) {
        let mut state = self.shared.state();
        match policy {
            Some(policy) => drop(state.policies.insert(account.to_ascii_lowercase(), policy)),
            None => drop(state.policies.remove(&account.to_ascii_lowercase())),
        }
    }

    /// Makes a repository read-only, or writable again.
    pub fn archive(&self, full_name: &str, archived: bool) {
        self.change(full_name, |repository| repository.archived = archived);
    }

    /// Replaces the key that secrets are sealed for: what was sealed for the old one is refused.
    pub fn rotate_public_key(&self, full_name: &str) {
        self.change(full_name, HostedRepository::rotate_key);
    }

    /// Writes a secret as somebody with the right to does on GitHub's pages.
    pub fn set_secret(&self, full_name: &str, name: &str, value: &str) {
        let at = self.shared.state().timestamp();
        let secret = StoredSecret { value: value.to_owned(), created_at: at, updated_at: at };
        self.change(full_name, |repository| drop(repository.secrets.insert(name.to_owned(), secret)));
    }

    /// Lets a check report on a commit: `success`, `failure`, `error` or `pending`.
    pub fn report_check(&self, full_name: &str, sha: &str, context: &str, state: &str) {
        let status = CommitStatus { sha: sha.to_owned(), context: context.to_owned(), state: state.to_owned() };
        self.change(full_name, |repository| repository.statuses.push(status));
    }

    /// The app's number.
    #[must_use]
    pub fn app_id(&self) -> u64 {
        self.shared.state().app.id
    }

    /// The app's other name, which a JSON web token may be issued by as well.
    #[must_use]
    pub fn app_client_id(&self) -> String {
        self.shared.state().app.client_id.clone()
    }

    /// Installs the app on an account, for the repositories (`owner/name`) and permissions given.
    pub fn install_app(&self, account: &str, repositories: &[&str], granted: &[(&str, Level)]) -> u64 {
        let mut state = self.shared.state();
        let repositories = repositories.iter().map(|name| id_of(&mut state, name)).collect();
        let id = state.next_id();
        let account = account.to_owned();
        let permissions = permissions(granted);
        state.installations.insert(id, Installation { id, account, repositories, permissions, suspended_at: None });
        id
    }

    /// Suspends an installation, or lifts that.
    pub fn suspend_installation(&self, id: u64, suspended: bool) {
        let mut state = self.shared.state();
        let at = suspended.then(|| state.timestamp());
        if let Some(installation) = state.installations.get_mut(&id) {
            installation.suspended_at = at;
        }
    }

    /// Uninstalls the app: its tokens of that installation stop working.
    pub fn delete_installation(&self, id: u64) {
        self.shared.state().installations.remove(&id);
    }

    /// Issues a personal access token.
    pub fn add_token(&self, new: &NewToken) -> String {
        let mut state = self.shared.state();
        let secret = match new.kind {
            TokenKind::FineGrained => format!("github_pat_{}_{}", alphanumeric::<22>(), alphanumeric::<59>()),
            _ => format!("ghp_{}", alphanumeric::<36>()),
        };
        let repositories = new
            .repositories
            .as_ref()
            .map(|names| names.iter().map(|name| id_of(&mut state, name)).collect::<BTreeSet<_>>());
        let granted: Vec<_> = new.permissions.iter().map(|(name, level)| (name.as_str(), *level)).collect();
        let lifetime = new.lifetime.map(|lifetime| i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX));
        let token = Token {
            kind: new.kind,
            account: state.next_id(),
            repositories,
            permissions: permissions(&granted),
            scopes: new.scopes.clone(),
            expires_at: lifetime.map(|seconds| state.now().saturating_add(seconds)),
        };
        state.tokens.insert(secret.clone(), token);
        secret
    }

    /// Takes a token of any kind back.
    pub fn revoke(&self, token: &str) {
        self.shared.state().tokens.remove(token);
    }

    /// Sets the stand-in's clock ahead of the machine's, in seconds; negative is behind.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.state().clock_offset = seconds;
    }

    /// Changes how much GitHub allows, from the next request on.
    pub fn set_limits(&self, limits: RateLimits) {
        self.shared.state().limits = limits;
    }

    /// Leaves an installation with no requests until its window ends.
    pub fn exhaust_installation(&self, id: u64) {
        let mut state = self.shared.state();
        let (limits, now) = (state.limits, state.now());
        state.counters.exhaust(limits, Bucket::Installation(id), now);
    }

    /// Plants a fault; the oldest that matches a request hits it.
    pub fn plant(&self, fault: PlantedFault) {
        self.shared.state().faults.plant(fault);
    }

    /// Takes every fault away that hasn't hit yet.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    pub(super) fn change(&self, full_name: &str, change: impl FnOnce(&mut HostedRepository)) {
        change(named(&mut self.shared.state(), full_name));
    }
}

fn named<'a>(state: &'a mut GithubState, full_name: &str) -> &'a mut HostedRepository {
    let id = state.by_full_name(full_name).map(|repository| repository.id);
    let Some(repository) = id.and_then(|id| state.repositories.get_mut(&id)) else {
        panic!("the test added no repository {full_name}")
    };
    repository
}

fn id_of(state: &mut GithubState, full_name: &str) -> u64 {
    named(state, full_name).id
}
