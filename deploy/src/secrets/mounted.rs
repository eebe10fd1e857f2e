//! Secrets that are mounted into the workers. A reference reaches only what lies in the folder of its project or of its
//! repository's owner: whoever can send an event could otherwise have any of them written into a project of its own.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use slipway_protocol::ErrorCode;
use slipway_protocol::ProjectId;
use slipway_protocol::names::{RepositoryName, SecretReference};
use zeroize::Zeroize as _;

use super::seal::secret_text;
use crate::StageError;

/// A mounted secret is at most this large, like a sealed one.
const MAX_MOUNTED_BYTES: u64 = 64 * 1024;
/// The folder of the projects' folders, each named by the project's id.
const PROJECTS: &str = "projects";
/// The folder of the owners' folders, each named by an owner of repositories in small letters.
const OWNERS: &str = "owners";

/// Who may read which mounted secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub project: ProjectId,
    pub repository: &'a RepositoryName,
    /// Whether files that lie in nobody's folder are read as well.
    pub unscoped: bool,
}

/// The value that `reference` names for this reader, without one trailing newline, and whether it lay in nobody's folder.
/// The error never repeats the reference: it may be a secret in the wrong field.
pub(super) fn read(
    secrets_dir: Option<&Path>,
    reference: &SecretReference,
    reader: Reader<'_>,
) -> Result<(SecretString, bool), StageError> {
    let dir = secrets_dir.ok_or_else(|| unknown("the workers have no directory of mounted secrets"))?;
    let dir = dir.canonicalize().map_err(|e| unknown(&format!("the directory of mounted secrets: {e}")))?;
    let (project, owner) = (reader.project.to_string(), reader.repository.owner().to_ascii_lowercase());
    let own = [Path::new(PROJECTS).join(project), Path::new(OWNERS).join(owner)];
    for folder in &own {
        if let Some(path) = find(&dir, folder, reference)? {
            return Ok((content(&path)?, false));
        }
    }
    if reader.unscoped
        && let Some(path) = find(&dir, Path::new(""), reference)?
    {
        return Ok((content(&path)?, true));
    }
    Err(unknown("its reference isn't mounted for this project, in the folder of its id or of its repository's owner"))
}

/// Whether a directory of mounted secrets holds files in nobody's folder.
#[must_use]
pub fn has_unscoped(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).any(|path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        !name.starts_with('.') && path.is_file()
    })
}

fn unknown(why: &str) -> StageError {
    StageError::new(ErrorCode::UnknownSecretReference, why)
}

/// The file behind a reference in one folder, if there is one. Kubernetes mounts through links, which is fine as long as
/// they end below that folder.
fn find(dir: &Path, folder: &Path, reference: &SecretReference) -> Result<Option<PathBuf>, StageError> {
    let Ok(folder) = dir.join(folder).canonicalize() else { return Ok(None) };
    let Ok(path) = folder.join(reference.as_str()).canonicalize() else { return Ok(None) };
    if !folder.starts_with(dir) || !path.starts_with(&folder) {
        return Err(unknown("its reference leads out of the directory of mounted secrets"));
    }
    Ok(Some(path))
}

fn content(path: &Path) -> Result<SecretString, StageError> {
    let metadata = fs::metadata(path).map_err(|e| unknown(&format!("the mounted file: {e}")))?;
    if !metadata.is_file() || metadata.len() > MAX_MOUNTED_BYTES {
        return Err(unknown("what is mounted isn't a regular file of at most 64 KiB"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    let read = fs::File::open(path).and_then(|file| file.take(MAX_MOUNTED_BYTES).read_to_end(&mut bytes));
    if let Err(error) = read {
        bytes.zeroize();
        return Err(unknown(&format!("the mounted file can't be read: {error}")));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    secret_text(bytes).ok_or_else(|| unknown("the mounted file isn't UTF-8"))
}
