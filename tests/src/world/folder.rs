//! The world's folder and control groups: made, locked while in use, removed afterwards, also those that a killed test
//! has left behind.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use uuid::Uuid;

const PREFIX: &str = "slipway-world-";

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
        let path = parent.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        // Locked before there is anything that another test could take for leftovers.
        let lock = File::create_new(lock_of(&path)).context("making the world's folder")?;
        lock.lock()?;
        fs::create_dir(&path)?;
        // Postgres runs as another user and must reach its data.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
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

fn lock_of(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

/// Removes what worlds that are gone have left: those whose lock nobody holds.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let lock = entry.path();
        let is_lock = lock.extension().is_some_and(|extension| extension == "lock");
        if !is_lock || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if File::open(&lock).is_ok_and(|file| file.try_lock().is_ok()) {
            remove(&lock.with_extension(""));
        }
    }
}

/// Removes a folder, its control groups and its lock. The kernel lets go of killed processes' things a moment after
/// their end.
fn remove(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let groups = remove_groups(path);
        let files = fs::remove_dir_all(path).is_ok() || !path.exists();
        if groups && files {
            // Last: it is what makes the next test try again.
            let _ = fs::remove_file(lock_of(path));
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The control groups are named after the folder; version 1 has one tree per controller.
fn remove_groups(path: &Path) -> bool {
    let Some(name) = path.file_name() else {
        return true;
    };
    let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let trees = trees.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    let groups: Vec<PathBuf> = trees.map(|tree| tree.join(name)).filter(|group| group.is_dir()).collect();
    groups.iter().all(|group| remove_group(group))
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
