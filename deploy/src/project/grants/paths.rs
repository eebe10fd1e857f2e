//! Paths of the server that a project names: which may be mounted, and which may be read for it. By their names here; that
//! no link leads elsewhere is looked up on the server.

use std::collections::BTreeSet;

use serde_json::Value;

use super::refusal::{Refusal, Refusals};

/// A path that is mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountedPath {
    /// Who mounts it: `service backend`.
    pub place: String,
    /// Under which key.
    pub key: String,
    /// Absolute, in its shortest form, below the project's directory.
    pub path: String,
    /// Whether a container may write there.
    pub writable: bool,
}

impl MountedPath {
    /// Refused for what the server has seen there: `linked`, or something that is neither file nor directory.
    pub(crate) fn refused(&self, what: &str) -> Refusal {
        let rule = if what == "linked" { LINKED } else { SPECIAL };
        Refusal::new(&self.place, &self.key, &Value::from(self.path.as_str()), rule)
    }
}

const LINKED: &str = "no part of the path may be a symbolic link";
const SPECIAL: &str = "only files and directories can be mounted";
const OUTSIDE: &str = "only what lies in the project's own directory can be used";
const OWN: &str = "git's and Slipway's own files can't be used";
const ENV: &str = "a file of variables can't be mounted; use env_file or environment";
const COMPOSE: &str =
    "the compose files decide what a project may do, and can't be mounted, nor the directories around them";
const NESTED: &str = "a container may write in a directory above it, and could turn it into a link to anywhere: mount that read-only, or, if only the release that runs does so, stop the project first";
const READ: &str = "a container may write there, and compose reads a file there (env_file, label_file, extends or include): keep it elsewhere, or, if only the release that runs does so, stop the project first";

/// What containers never get: files, and with them the directories above.
const ENV_FILES: [&str; 3] = [".env", "infra/.env", "infra/.env.prod"];
const COMPOSE_FILES: [&str; 3] = ["infra/compose.base.yml", "infra/compose.prod.yml", "infra/compose.slipway.yml"];

/// The path below `directory`.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn relative<'a>(directory: &str, path: &'a str) -> Result<&'a str, &'static str> {
    let inside = path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/')).ok_or(OUTSIDE)?;
    // Compose doubles each dollar of its model, which makes it the name of another file.
    let whole = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(|c| c.is_control() || c == '$');
    if !inside.split('/').all(whole) {
        return Err(OUTSIDE);
    }
    match inside.split('/').next() {
        Some(".git" | ".slipway") => Err(OWN),
        _ => Ok(inside),
    }
}

/// Refused, since compose reads a file in one of these.
pub(crate) fn read_where_written<'a>(writable: impl Iterator<Item = &'a str>) -> Refusal {
    let places = writable.collect::<Vec<_>>().join(", ");
    Refusal::new("project", "env_file", &Value::from(places), READ)
}

/// Whether a path may be mounted.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn check_mountable(directory: &str, path: &str) -> Result<(), &'static str> {
    if path == directory {
        return Err(COMPOSE);
    }
    let inside = relative(directory, path)?;
    let holds = |file: &&str| **file == *inside || file.strip_prefix(inside).is_some_and(|rest| rest.starts_with('/'));
    if ENV_FILES.contains(&inside) {
        return Err(ENV);
    }
    if COMPOSE_FILES.iter().any(holds) { Err(COMPOSE) } else { Ok(()) }
}

/// Refuses paths below others that a container may write to, of this release or of those that run: it could swap them for
/// links at any time.
pub(super) fn judge_nesting(refusals: &mut Refusals, paths: &[MountedPath], running: &BTreeSet<String>) {
    let of_release = paths.iter().filter(|p| p.writable).map(|p| p.path.as_str());
    let writable: BTreeSet<&str> = of_release.chain(running.iter().map(String::as_str)).collect();
    for mounted in paths {
        let below = |above: &&str| mounted.path.strip_prefix(*above).is_some_and(|rest| rest.starts_with('/'));
        if writable.iter().any(below) {
            refusals.refuse(&mounted.place, &mounted.key, &Value::from(mounted.path.as_str()), NESTED);
        }
    }
}
