//! The world's folder and control groups: made, locked while in use, removed afterwards, also those that a killed test
//! has left behind.

use std::env;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const PREFIX: &str = "slipway-world-";
/// Younger than this, a folder may be one whose lock is about to be taken.
const YOUNG: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    pub(super) fn create() -> Result<Self> {
        let parent = env::var_os("SLIPWAY_WORLD_DIR").map_or_else(env::temp_dir, PathBuf::from);
        fs::create_dir_all(&parent)?;
        sweep(&parent);
        let path = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&parent)
            .context("making the world's folder")?
            .keep();
        // Postgres runs as another user and must reach its data.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        let lock = File::create(path.join("lock"))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes what worlds that are gone have left.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let old = entry
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > YOUNG));
        if !old || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(lock) = File::open(path.join("lock")) else {
            continue;
        };
        if !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
            remove(&path);
        }
    }
}

/// Removes a folder and its control groups. The kernel lets go of killed processes' things a moment after their end.
fn remove(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !(remove_groups(path) && (fs::remove_dir_all(path).is_ok() || !path.exists()))
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The control groups are named after the folder; version 1 has one tree per controller.
fn remove_groups(path: &Path) -> bool {
    let Some(name) = path.file_name() else {
        return true;
    };
    let trees = fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    trees
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|tree| tree.join(name))
        .filter(|group| group.is_dir())
        .fold(true, |all, group| remove_group(&group) && all)
}

/// A group's files can't be deleted; `rmdir` of an empty group takes them along.
fn remove_group(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok()
}
