//! The world's registries: ghcr.io with a login, Docker Hub without one. Real docker-registry processes whose storage
//! is filled by writing its files: an image is there in a millisecond, and no test waits for a push.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use serde_json::json;
use uuid::Uuid;

use super::cache::Cache;
use super::holder::MountHolder;
use super::image::Image;
use super::net;
use super::probe;
use super::service::Service;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A login for ghcr.io that may pull: not a GitHub token, which the real one refuses for private packages.
#[derive(Debug, Clone)]
pub struct RegistryLogin {
    /// The user's name.
    pub username: String,
    /// The password, another one in every world.
    pub password: String,
}

/// One registry: its process and its storage.
#[derive(Debug)]
pub struct Registry {
    service: Service,
    storage: PathBuf,
    cache: Arc<Cache>,
}

impl Registry {
    /// ghcr.io, not started yet, and the login that it accepts.
    pub(super) fn ghcr(holder: &Arc<MountHolder>, cache: &Arc<Cache>) -> Result<(Self, RegistryLogin)> {
        let credential = RegistryLogin {
            username: "slipway-puller".to_owned(),
            password: format!("ghp_{}", Uuid::new_v4().simple()),
        };
        let file = holder.folder().join("ghcr.htpasswd");
        fs::write(&file, hashed(&credential)?)?;
        let login = json!({"htpasswd": {"realm": "ghcr.io", "path": file}});
        Ok((Self::new("ghcr", net::GHCR, Some(login), holder, cache)?, credential))
    }

    /// Docker Hub, not started yet, with the base images that projects name.
    pub(super) fn docker_hub(holder: &Arc<MountHolder>, cache: &Arc<Cache>) -> Result<Self> {
        let registry = Self::new("docker-hub", net::DOCKER_HUB, None, holder, cache)?;
        for tag in ["7-alpine", "7"] {
            registry.put("library/redis", tag, &Image::redis())?;
        }
        for tag in ["16", "16-alpine"] {
            registry.put("library/postgres", tag, &Image::postgres())?;
        }
        Ok(registry)
    }

    fn new(
        name: &'static str,
        address: Ipv4Addr,
        login: Option<serde_json::Value>,
        holder: &Arc<MountHolder>,
        cache: &Arc<Cache>,
    ) -> Result<Self> {
        let storage = holder.folder().join(name);
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": storage}, "delete": {"enabled": true}},
            "http": {
                "addr": format!("{address}:443"),
                "tls": {"certificate": cache.key("server.pem"), "key": cache.key("server.key")},
            },
        });
        if let Some(login) = login {
            configuration["auth"] = login;
        }
        // JSON is YAML.
        let file = holder.folder().join(format!("{name}.yml"));
        fs::write(&file, configuration.to_string())?;
        let command = vec!["docker-registry".to_owned(), "serve".to_owned(), file.display().to_string()];
        let service = Service::new(name, holder, command, move |holder| holder.inside(|| Ok(probe::tls(address))));
        Ok(Self { service, storage, cache: Arc::clone(cache) })
    }

    /// The registry's process, to stop or to freeze it; its log tells who pulled what.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Lets ghcr.io accept this login and no other, from now on.
    ///
    /// # Errors
    /// When its password file can't be written.
    pub fn accept_only(&self, credential: &RegistryLogin) -> Result<()> {
        replace(&self.storage.with_extension("htpasswd"), &hashed(credential)?)
    }

    /// Puts an image under `repository:tag` and returns its digest, `sha256:…`. A tag that is there moves.
    ///
    /// # Errors
    /// When the storage can't be written.
    pub fn put(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        ensure!(!repository.contains(char::is_uppercase), "image names are lower case: {repository}");
        let layer = self.cache.layer_sum(image.layer, "digest")?;
        let layer_file = self.cache.layer(image.layer, "tar.gz");
        let layer_size = fs::metadata(&layer_file)?.len();
        let config = image.configuration(&self.cache.layer_sum(image.layer, "diff-id")?)?;
        let config_sum = sha256(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": config.len(), "digest": format!("sha256:{config_sum}")},
            "layers": [{"mediaType": LAYER, "size": layer_size, "digest": format!("sha256:{layer}")}],
        }))?;
        let manifest_sum = sha256(&manifest);

        self.blob_from(&layer, &layer_file)?;
        self.blob(&config_sum, &config)?;
        self.blob(&manifest_sum, &manifest)?;
        let home = self.repository(repository);
        for sum in [&layer, &config_sum] {
            link(&home.join("_layers/sha256").join(sum), sum)?;
        }
        link(&home.join("_manifests/revisions/sha256").join(&manifest_sum), &manifest_sum)?;
        let tag = home.join("_manifests/tags").join(tag);
        link(&tag.join("index/sha256").join(&manifest_sum), &manifest_sum)?;
        link(&tag.join("current"), &manifest_sum)?;
        Ok(format!("sha256:{manifest_sum}"))
    }

    /// As [`Registry::put`] on Docker Hub, and gives the image's reference with tag and digest.
    pub(super) fn put_pinned(&self, repository: &str, tag: &str, image: &Image) -> Result<String> {
        Ok(format!("docker.io/{repository}:{tag}@{}", self.put(repository, tag, image)?))
    }

    /// Takes a tag away: a pull of it fails from now on.
    ///
    /// # Errors
    /// When there is no such tag.
    pub fn remove(&self, repository: &str, tag: &str) -> Result<()> {
        let folder = self.repository(repository).join("_manifests/tags").join(tag);
        fs::remove_dir_all(&folder).with_context(|| format!("no {repository}:{tag} to remove"))
    }

    /// Takes a manifest away: its image can't be had any more, under whatever name.
    ///
    /// # Errors
    /// When there is no such manifest.
    pub fn remove_manifest(&self, repository: &str, digest: &str) -> Result<()> {
        let sum = digest.trim_start_matches("sha256:");
        let folder = self.repository(repository).join("_manifests/revisions/sha256").join(sum);
        fs::remove_dir_all(&folder).with_context(|| format!("no {repository}@{digest} to remove"))
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.storage.join("docker/registry/v2/repositories").join(name)
    }

    fn blob_path(&self, sum: &str) -> PathBuf {
        self.storage.join("docker/registry/v2/blobs/sha256").join(&sum[..2]).join(sum).join("data")
    }

    fn blob(&self, sum: &str, data: &[u8]) -> Result<()> {
        replace(&self.blob_path(sum), data)
    }

    /// A blob that shares the file's bytes where the file system allows it.
    fn blob_from(&self, sum: &str, file: &Path) -> Result<()> {
        let path = self.blob_path(sum);
        if path.exists() {
            return Ok(());
        }
        let folder = path.parent().context("a blob has a folder")?;
        fs::create_dir_all(folder)?;
        // Never a copy onto what is there: that may be the file itself, linked by another thread just now.
        let new = folder.join(format!(".{}", Uuid::new_v4().simple()));
        if fs::hard_link(file, &new).is_err() {
            fs::copy(file, &new)?;
        }
        fs::rename(&new, &path)?;
        // Two links of one file stay both.
        let _ = fs::remove_file(&new);
        Ok(())
    }
}

fn link(folder: &Path, sum: &str) -> Result<()> {
    replace(&folder.join("link"), format!("sha256:{sum}").as_bytes())
}

/// Writes a file at once: the registry may read while a tag moves.
fn replace(path: &Path, data: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder)?;
    let new = folder.join(format!(".{}", Uuid::new_v4().simple()));
    fs::write(&new, data)?;
    fs::rename(&new, path)?;
    Ok(())
}

fn sha256(data: &[u8]) -> String {
    HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, data).as_ref())
}

/// The registry's password file: bcrypt at its cheapest. The password goes by stdin.
fn hashed(credential: &RegistryLogin) -> Result<Vec<u8>> {
    let mut child = Command::new("htpasswd")
        .args(["-niB", "-C", "4", &credential.username])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting htpasswd")?;
    child.stdin.take().context("stdin is piped")?.write_all(credential.password.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "htpasswd: {}", output.status);
    Ok(output.stdout)
}
