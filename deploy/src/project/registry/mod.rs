//! The image registry, asked by the worker before anything on a server is touched: which image of a commit there is,
//! and whether the credential may read it. Images themselves are pulled by the servers. How it's asked is in
//! `connection`.

mod challenge;
mod connection;

use reqwest::Method;
use serde_json::Value;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::{BranchName, CommitSha};

use self::connection::RegistryConnection;
pub use self::connection::TIMEOUT;
use super::image_tag;
use crate::{DeployerConfig, RegistryCredential, StageError};

/// The label with which builders record the commit that an image was made from.
const REVISION: &str = "org.opencontainers.image.revision";

/// An image is built for a dozen at most.
const MAX_PLATFORMS: usize = 32;

/// What an image is built for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagePlatforms {
    /// As `linux/arm64`; none where it doesn't say.
    pub names: Vec<String>,
    /// Whether docker chooses among several, and takes none where its own isn't there. One alone is pulled by any server.
    pub of_index: bool,
}

/// One registry, and who asks it. Clones share connections.
#[derive(Clone)]
pub(crate) struct RegistryClient {
    connection: RegistryConnection,
}

/// An image that a deployment runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReleaseImage {
    /// The reference in `.env`: the commit's own tag, or the branch's with its digest.
    pub reference: String,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
}

/// An image that a recorded version ran.
#[derive(Debug)]
pub(crate) struct RecordedImage {
    /// The manifest's digest.
    pub digest: String,
    /// Whether the server has it: then the registry needn't.
    pub on_server: bool,
}

impl RegistryClient {
    /// Builds the client, without a credential; nothing is sent.
    ///
    /// # Errors
    /// `internal-error` for a bad CA file.
    pub(crate) fn new(config: &DeployerConfig) -> Result<Self, StageError> {
        Ok(Self { connection: RegistryConnection::new(config, TIMEOUT)? })
    }

    /// The same client with another credential, or none.
    pub(crate) fn with_credential(&self, credential: Option<RegistryCredential>) -> Self {
        Self { connection: self.connection.with_credential(credential) }
    }

    /// The time by the registry's clock, in seconds since 1970; `None` where it doesn't tell it.
    pub(crate) async fn clock(&self) -> Option<u64> {
        self.connection.clock().await
    }

    /// The image of `repository` to run for a commit: its own (`sha-<7>`), else that of the branch, pinned to its
    /// digest, unless that one says that it was made from another commit. `host` is how references begin.
    ///
    /// # Errors
    /// `image-not-found`, `registry-credential-refused`, `registry-rate-limited`, `registry-unavailable`.
    pub(crate) async fn find(
        &self,
        host: &str,
        repository: &str,
        commit: &CommitSha,
        branch: &BranchName,
    ) -> Result<ReleaseImage, StageError> {
        let own = image_tag::of_commit(commit);
        if let Some(digest) = self.digest(repository, &own).await? {
            return Ok(ReleaseImage { reference: format!("{host}/{repository}:{own}"), digest });
        }
        let tag = image_tag::of_branch(branch);
        let absent = |why: String| {
            let message = format!("{host}/{repository} has no image {own}, and {why}");
            StageError::new(ErrorCode::ImageNotFound, message)
        };
        let Some(digest) = self.digest(repository, &tag).await? else {
            return Err(absent(format!("none tagged {tag} either")));
        };
        match self.revision(repository, &digest).await? {
            // What the image says of itself is anybody's text.
            Some(other) if other != commit.as_str() => Err(absent(match CommitSha::new(other) {
                Ok(other) => format!("the one tagged {tag} is of commit {other}"),
                Err(_) => format!("the one tagged {tag} is of another commit"),
            })),
            _ => Ok(ReleaseImage { reference: format!("{host}/{repository}:{tag}@{digest}"), digest }),
        }
    }

    /// As [`Self::find`], but the `recorded` image as long as it can be had, whatever its tag means by now. It's named as it
    /// was then where that still means it.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn find_recorded(
        &self,
        host: &str,
        repository: &str,
        commit: &CommitSha,
        branch: &BranchName,
        recorded: &RecordedImage,
    ) -> Result<ReleaseImage, StageError> {
        let RecordedImage { digest, on_server } = recorded;
        let own = image_tag::of_commit(commit);
        let now = self.digest(repository, &own).await?;
        let tag = if now.is_some() { own } else { image_tag::of_branch(branch) };
        let reference = match now {
            Some(now) if now == *digest => format!("{host}/{repository}:{tag}"),
            _ if *on_server || self.digest(repository, digest).await?.is_some() => {
                format!("{host}/{repository}:{tag}@{digest}")
            }
            _ => return self.find(host, repository, commit, branch).await,
        };
        Ok(ReleaseImage { reference, digest: digest.clone() })
    }

    /// How the credential was refused, where anybody got what was asked for with it.
    pub(crate) fn passed_over(&self) -> Option<&StageError> {
        self.connection.passed_over()
    }

    /// The platforms that an image is there for.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub(crate) async fn platforms(&self, repository: &str, digest: &str) -> Result<ImagePlatforms, StageError> {
        let manifest = self.connection.json(repository, "manifests", digest.to_owned()).await?;
        let word = |value: &Value| value.as_str().filter(|word| is_word(word)).map(str::to_owned);
        let name = |platform: &Value| Some(format!("{}/{}", word(&platform["os"])?, word(&platform["architecture"])?));
        if let Some(entries) = manifest["manifests"].as_array() {
            let names = entries.iter().filter_map(|entry| name(&entry["platform"]));
            // What is attested of the others counts as such.
            let names = names.filter(|name| name != "unknown/unknown").take(MAX_PLATFORMS).collect();
            return Ok(ImagePlatforms { names, of_index: true });
        }
        let Some(config) = manifest["config"]["digest"].as_str() else { return Ok(ImagePlatforms::default()) };
        let config = self.connection.json(repository, "blobs", config.to_owned()).await?;
        Ok(ImagePlatforms { names: name(&config).into_iter().collect(), of_index: false })
    }

    /// Whether the credential, or anybody where there is none, may read a manifest.
    ///
    /// # Errors
    /// Where the registry doesn't say.
    pub(crate) async fn can_read(&self, repository: &str, manifest: &str) -> Result<bool, StageError> {
        match self.connection.ask(Method::HEAD, repository, &format!("{repository}/manifests/{manifest}")).await {
            Ok(answer) => Ok(answer.is_some()),
            Err(error) if error.code == ErrorCode::RegistryCredentialRefused => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The digest of a manifest, by tag or digest. `None`: it isn't there.
    async fn digest(&self, repository: &str, tag: &str) -> Result<Option<String>, StageError> {
        let path = format!("{repository}/manifests/{tag}");
        let Some(answer) = self.connection.ask(Method::HEAD, repository, &path).await? else { return Ok(None) };
        let digest = answer.headers().get("docker-content-digest").and_then(|d| d.to_str().ok());
        let plain = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        match digest.filter(|d| d.strip_prefix("sha256:").is_some_and(plain)) {
            Some(digest) if tag.contains(':') && digest != tag => {
                Err(self.connection.broken("another manifest than the one that was asked for"))
            }
            Some(digest) => Ok(Some(digest.to_owned())),
            None => Err(self.connection.broken("a manifest without a digest")),
        }
    }

    /// The commit that an image says it was made from.
    async fn revision(&self, repository: &str, digest: &str) -> Result<Option<String>, StageError> {
        let revision_in = |value: &Value| value[REVISION].as_str().map(str::to_owned);
        let json = |kind, digest| self.connection.json(repository, kind, digest);
        let mut manifest = json("manifests", digest.to_owned()).await?;
        if let Some(revision) = revision_in(&manifest["annotations"]) {
            return Ok(Some(revision));
        }
        if let Some(first) = manifest["manifests"][0]["digest"].as_str().map(str::to_owned) {
            manifest = json("manifests", first).await?;
        }
        let Some(config) = manifest["config"]["digest"].as_str() else { return Ok(None) };
        let config = json("blobs", config.to_owned()).await?;
        Ok(revision_in(&config["config"]["Labels"]))
    }
}

/// Whether it can name a system or a processor: the text is anybody's.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod answers_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
