//! What `tests/prepare` has built for all worlds, and where. Builds nothing itself.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The prepared parts, held against replacement for as long as this lives.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    _lock: File,
}

impl Cache {
    /// Opens the cache that `tests/prepare` filled.
    ///
    /// # Errors
    /// When it is not complete.
    pub fn open() -> Result<Self> {
        let root = root()?;
        let unprepared = "the test world is not prepared: run tests/prepare";
        for part in ["keys", "rootfs", "bin", "venv", "caddy", "github-api", "layers", "cluster"] {
            ensure!(root.join(part).is_dir(), "{unprepared} (no {part} in {})", root.display());
        }
        // Shared between worlds; `tests/prepare` takes it alone before it replaces a part.
        let lock = File::open(root.join("lock")).context(unprepared)?;
        lock.lock_shared().context("locking the prepared parts")?;
        Ok(Self { root, _lock: lock })
    }

    /// `rootfs`, `keys`, …: one prepared part.
    #[must_use]
    pub fn part(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// One of the files in `keys`.
    #[must_use]
    pub fn key(&self, name: &str) -> PathBuf {
        self.root.join("keys").join(name)
    }

    /// The sha256, in hex, that `tests/prepare` wrote beside a layer: of its `digest` or its `diff-id`.
    pub(super) fn layer_sum(&self, layer: &str, kind: &str) -> Result<String> {
        let path = self.layer(layer, kind);
        let sum = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(sum.trim().to_owned())
    }

    pub(super) fn layer(&self, layer: &str, extension: &str) -> PathBuf {
        self.root.join("layers").join(format!("{layer}.{extension}"))
    }

    /// A Python with pika, PyNaCl and pydantic.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.root.join("venv/bin/python")
    }

    /// Caddy, of the front door's version.
    #[must_use]
    pub fn caddy(&self) -> PathBuf {
        self.root.join("caddy/caddy")
    }

    /// Docker Compose of the target servers' version, for `config` without a daemon.
    #[must_use]
    pub fn compose(&self) -> PathBuf {
        self.root.join("bin/docker-compose")
    }
}

/// The same rule as in `tests/prepare`.
fn root() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SLIPWAY_CACHE") {
        return Ok(PathBuf::from(path));
    }
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(path) => PathBuf::from(path),
        None => Path::new(&env::var_os("HOME").context("neither SLIPWAY_CACHE, XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("slipway"))
}
