//! Reads files that hold keys, and refuses those that others may read.
//!
//! What the content means is not decided here.

use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// No key comes near this size.
const MAX_BYTES: u64 = 64 * 1024;

/// A file or directory of keys that can't be used. Never repeats the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct KeyFileError {
    /// Which file or directory.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl KeyFileError {
    pub(crate) fn new(path: &Path, problem: impl Into<String>) -> Self {
        Self { path: path.to_owned(), problem: problem.into() }
    }
}

/// The text of a key file.
///
/// Group members may read it only if it belongs to somebody else: that is how Kubernetes mounts a secret for a
/// process that isn't root (owner root, group `fsGroup`, mode 0440), and there is no other way to read it then.
///
/// # Errors
/// [`KeyFileError`] when it isn't a regular file of at most 64 KiB of UTF-8, or when others may read or change it.
pub fn read(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let (text, metadata) = read_any(path)?;
    if exposed(metadata.mode(), metadata.uid() == own_user(path)?) {
        let mode = metadata.mode() & 0o777;
        return Err(KeyFileError::new(path, format!("is open to others (mode {mode:04o}); run chmod 0400 on it")));
    }
    Ok(text)
}

/// The text of a file with a secret, whoever may read it: of passwords and tokens that is told at the start.
///
/// # Errors
/// [`KeyFileError`] when it isn't a regular file of at most 64 KiB of UTF-8.
pub(crate) fn read_any(path: &Path) -> Result<(Zeroizing<String>, Metadata), KeyFileError> {
    let unreadable = |error: std::io::Error| KeyFileError::new(path, format!("can't be read: {error}"));
    // Opening a pipe would wait for a writer; the checks that count are made on the open file.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(KeyFileError::new(path, "isn't a regular file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(KeyFileError::new(path, "isn't a regular file of at most 64 KiB"));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    // Some editors put it before UTF-8, and no password or key begins with it.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok((text, metadata))
}

fn own_user(path: &Path) -> Result<u32, KeyFileError> {
    let unreadable = |error: std::io::Error| KeyFileError::new(path, format!("can't be read: {error}"));
    Ok(fs::metadata("/proc/self").map_err(unreadable)?.uid())
}

/// Whether somebody other than this process's user may read the file needlessly, or change it.
fn exposed(mode: u32, ours: bool) -> bool {
    let forbidden = if ours { 0o077 } else { 0o037 };
    mode & forbidden != 0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_of_our_own_must_be_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.key");
        fs::write(&path, "content").unwrap();
        for (mode, accepted) in [(0o400, true), (0o600, true), (0o440, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&path);
            assert_eq!(read.is_ok(), accepted, "mode {mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
            }
        }
    }

    #[test]
    fn a_mounted_file_of_root_may_be_read_through_our_group_but_not_by_the_world() {
        assert!(!exposed(0o440, false));
        assert!(exposed(0o444, false));
        assert!(exposed(0o460, false));
    }

    #[test]
    fn a_directory_a_missing_file_and_a_huge_one_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap_err().problem.contains("regular file"));
        assert!(read(&dir.path().join("none")).unwrap_err().problem.contains("can't be read"));
        let huge = dir.path().join("huge");
        fs::write(&huge, vec![b'a'; 70_000]).unwrap();
        fs::set_permissions(&huge, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&huge).unwrap_err().problem.contains("64 KiB"));
    }
}
