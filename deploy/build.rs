//! Gives the crate `SOURCE_DIGEST`, a digest of what decides what a deployment does: its own source, the protocol's, and the
//! versions of all crates. Programs that are built of the same have the same; their executables differ.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Seen from this package.
pub(crate) const SOURCES: [&str; 3] = ["src", "../protocol/src", "../Cargo.lock"];

fn main() -> io::Result<()> {
    let mut cargo = io::stdout();
    for source in SOURCES.iter().filter(|source| Path::new(source).exists()) {
        writeln!(cargo, "cargo:rerun-if-changed={source}")?;
    }
    writeln!(cargo, "cargo:rustc-env=SOURCE_DIGEST={}", digest(Path::new(""))?)
}

/// Of these files and folders below `place`, those that are there; in hexadecimal digits.
pub(crate) fn digest(place: &Path) -> io::Result<String> {
    let mut files = BTreeMap::new();
    for source in SOURCES {
        read(&place.join(source), PathBuf::from(source), &mut files)?;
    }
    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    Ok(format!("{:016x}", hasher.finish()))
}

fn read(path: &Path, name: PathBuf, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            read(&entry.path(), name.join(entry.file_name()), files)?;
        }
    } else if path.exists() {
        files.insert(name, fs::read(path)?);
    }
    Ok(())
}
