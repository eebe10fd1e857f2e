//! By which source a server was left as it is: whatever decides what a deployment does changes its digest.

use std::fs;
use std::path::Path;

#[path = "../../build.rs"]
#[expect(dead_code, reason = "cargo runs it")]
mod build;

#[test]
fn whatever_is_changed_in_the_source_is_another_digest() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("deploy");
    let edit = |path: &str, content: &str| {
        let path = place.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        build::digest(&place).unwrap()
    };
    let first = edit("src/stages/secrets.rs", "a");
    let mut seen = vec![first.clone()];
    for (path, content) in [
        ("src/stages/secrets.rs", "b"),
        ("src/scripts/clone.sh", "a"),
        ("../protocol/src/lib.rs", "a"),
        ("../Cargo.lock", "a"),
        ("../Cargo.lock", "b"),
    ] {
        let digest = edit(path, content);
        assert!(!seen.contains(&digest), "{path}");
        seen.push(digest);
    }
    fs::rename(place.join("src/scripts/clone.sh"), place.join("src/scripts/fetch.sh")).unwrap();
    assert!(!seen.contains(&build::digest(&place).unwrap()), "another name");
    for path in ["src/scripts", "../protocol"] {
        fs::remove_dir_all(place.join(path)).unwrap();
    }
    fs::remove_file(place.join("../Cargo.lock")).unwrap();
    assert_eq!(edit("src/stages/secrets.rs", "a"), first);
}

#[test]
fn programs_have_the_digest_of_the_source_that_they_are_built_of() {
    assert_eq!(env!("SOURCE_DIGEST"), build::digest(Path::new("")).unwrap());
}
