//! A stand-in with two private repositories, the App installed on one of them, and Slipway's client for it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use slipway_deploy::github::{GithubClient, SecretsWritten};
use slipway_deploy::{DeployerConfig, GithubCredential, ProjectLimits, StageError};
use slipway_protocol::names::{CommitSha, RepositoryName};
use slipway_tests::github::{GitHub, GitHubOptions, Level, NewRepository, NewToken, TlsFiles, sign_web_token};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub const SHOP: &str = "acme/Shop.Front";
pub const OTHER: &str = "acme/other";
pub const SECRETS: &str = "/repos/acme/Shop.Front/actions/secrets/";
pub const GRANTED: [(&str, Level); 2] = [("contents", Level::Read), ("secrets", Level::Write)];

pub struct ClientWorld {
    pub github: GitHub,
    pub installation: u64,
    /// The repositories; removed with the world.
    pub directory: TempDir,
    pub ca_file: Option<PathBuf>,
}

impl ClientWorld {
    pub fn start() -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        Self::start_in(directory, None, &GRANTED)
    }

    /// With other permissions of the App.
    pub fn start_granting(granted: &[(&str, Level)]) -> anyhow::Result<Self> {
        Self::start_in(TempDir::new()?, None, granted)
    }

    /// With a certificate for `localhost` that no system trusts.
    pub fn start_with_tls() -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        Self::start_in(directory, Some(TlsFiles { certificate, key }), &GRANTED)
    }

    fn start_in(directory: TempDir, tls: Option<TlsFiles>, granted: &[(&str, Level)]) -> anyhow::Result<Self> {
        let ca_file = tls.as_ref().map(|tls| tls.certificate.clone());
        let options = GitHubOptions { tls, ..GitHubOptions::loopback(directory.path().join("repositories"))? };
        let github = GitHub::start(options)?;
        github.add_repository("acme", "Shop.Front", &NewRepository::default())?;
        github.add_repository("acme", "other", &NewRepository::default())?;
        let installation = github.install_app("acme", &[SHOP], granted);
        Ok(Self { github, installation, directory, ca_file })
    }

    pub fn app(&self) -> GithubCredential {
        let private_key = self.github.app_private_key_pem().into();
        GithubCredential::App { id: self.github.app_id().to_string(), private_key }
    }

    pub fn token(&self, new: &NewToken) -> GithubCredential {
        GithubCredential::Token(self.github.add_token(new).into())
    }

    pub fn config(&self, github: GithubCredential) -> DeployerConfig {
        let port = self.github.api_addr().port();
        let scheme = if self.ca_file.is_some() { "https" } else { "http" };
        DeployerConfig {
            github_api: format!("{scheme}://localhost:{port}/"),
            github_git: format!("{scheme}://localhost:{}", self.github.git_addr().port()),
            github,
            registry_token_host: None,
            image_registry: "ghcr.io".to_owned(),
            digest_key: "0123456789abcdef0123456789abcdef".into(),
            ca_file: self.ca_file.clone(),
            project_root: "/opt/services".to_owned(),
            command_timeout: Duration::from_secs(60),
            health_timeout: Duration::from_secs(60),
            limits: ProjectLimits::DEFAULT,
            front_door: None,
        }
    }

    pub fn client(&self, github: GithubCredential) -> Result<GithubClient, StageError> {
        GithubClient::new(&self.config(github))
    }

    /// A commit of the shop, on no branch.
    pub fn commit(&self) -> anyhow::Result<CommitSha> {
        self.make_commit(None)
    }

    /// A commit of the shop that a branch points to.
    pub fn push(&self, branch: &str) -> anyhow::Result<CommitSha> {
        self.make_commit(Some(branch))
    }

    fn make_commit(&self, branch: Option<&str>) -> anyhow::Result<CommitSha> {
        let repository = self.directory.path().join("repositories").join(format!("{SHOP}.git"));
        let git = |arguments: &[&str]| -> anyhow::Result<String> {
            let output = std::process::Command::new("git")
                .args(["-c", "user.name=shop", "-c", "user.email=shop@localhost", "--git-dir"])
                .arg(&repository)
                .args(arguments)
                .output()?;
            anyhow::ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        let tree = git(&["hash-object", "-w", "-t", "tree", "/dev/null"])?;
        let commit = git(&["commit-tree", &tree, "-m", "work"])?;
        if let Some(branch) = branch {
            git(&["update-ref", &format!("refs/heads/{branch}"), &commit])?;
        }
        Ok(CommitSha::new(commit)?)
    }

    /// A web token of the App that works now.
    pub fn web_token(&self) -> anyhow::Result<String> {
        let now = jiff::Timestamp::now().as_second();
        let claims = serde_json::json!({ "iss": self.github.app_client_id(), "iat": now - 60, "exp": now + 540 });
        sign_web_token(self.github.app_private_key_pem(), &claims)
    }

    /// How many requests of this method and end of path there were.
    pub fn asked(&self, method: &str, path_end: &str) -> usize {
        self.github.requests().iter().filter(|r| r.method == method && r.path.ends_with(path_end)).count()
    }
}

pub fn secrets(pairs: &[(&str, &str)]) -> BTreeMap<String, SecretString> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
}

/// Puts secrets into the shop.
pub async fn put(
    client: &GithubClient,
    desired: &[(&str, &str)],
    digests: &mut BTreeMap<String, String>,
) -> Result<SecretsWritten, StageError> {
    put_into(client, SHOP, desired, digests).await
}

pub async fn put_into(
    client: &GithubClient,
    repository: &str,
    desired: &[(&str, &str)],
    digests: &mut BTreeMap<String, String>,
) -> Result<SecretsWritten, StageError> {
    let repository = RepositoryName::new(repository).expect("a repository's name");
    client.put_secrets(&repository, &secrets(desired), digests, &CancellationToken::new()).await
}

pub fn shop() -> RepositoryName {
    RepositoryName::new(SHOP).expect("a repository's name")
}
