//! Secrets that are mounted into the workers: who may read which.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;
use slipway_deploy::StageError;
use slipway_deploy::secrets::mounted::has_unscoped;
use slipway_deploy::secrets::open::{OpenedSecrets, SecretAccess, open_all};
use slipway_deploy::secrets::seal::{KeyRing, seal};
use slipway_protocol::names::{RepositoryName, SecretReference, VariableName};
use slipway_protocol::{ErrorCode, ProjectId, SecretSource};
use tempfile::TempDir;

use crate::sealed_secrets::{ring, sealed, secret};

/// What `project` of `acme` gets for these sources.
fn open(
    sources: &BTreeMap<VariableName, SecretSource>,
    project: ProjectId,
    ring: &KeyRing,
    mounted_dir: Option<&Path>,
    unscoped_references: bool,
) -> Result<OpenedSecrets, StageError> {
    let access = SecretAccess { ring, mounted_dir, unbound_boxes: true, unscoped_references };
    open_all(sources, project, &RepositoryName::new("Acme/shop").unwrap(), access)
}

/// A directory of mounted secrets, a project, and its folder there.
fn mounted() -> (TempDir, ProjectId, PathBuf) {
    let (dir, project) = (tempfile::tempdir().unwrap(), ProjectId(uuid::Uuid::new_v4()));
    let own = dir.path().join("projects").join(project.to_string());
    fs::create_dir_all(&own).unwrap();
    (dir, project, own)
}

fn reference(name: &str) -> BTreeMap<VariableName, SecretSource> {
    let source = SecretSource::Reference(SecretReference::new(name).unwrap());
    BTreeMap::from([(VariableName::new("TELEGRAM_BOT_TOKEN").unwrap(), source)])
}

#[test]
fn a_mounted_secret_loses_one_newline_and_nothing_else() {
    let (dir, project, own) = mounted();
    for (content, value) in [("a\n", "a"), ("a\n\n", "a\n"), ("a", "a"), (" a \n", " a "), ("", "")] {
        fs::write(own.join("shop.token"), content).unwrap();
        let opened = open(&reference("shop.token"), project, &KeyRing::default(), Some(dir.path()), false).unwrap();
        assert_eq!(opened.values.values().next().unwrap().expose_secret(), value);
        assert!(opened.unbound.is_empty());
    }
}

#[test]
fn sealed_and_mounted_secrets_are_opened_together() {
    let (_dir, ring, public) = ring("k");
    let (dir, project) = (tempfile::tempdir().unwrap(), ProjectId(uuid::Uuid::new_v4()));
    // As Kubernetes mounts: a link to a link into a directory of the version.
    let own = format!("..2026/projects/{project}");
    fs::create_dir_all(dir.path().join(&own)).unwrap();
    fs::write(dir.path().join(own).join("shop"), "mounted\n").unwrap();
    symlink("..2026", dir.path().join("..data")).unwrap();
    symlink("..data/projects", dir.path().join("projects")).unwrap();
    let mut sources = reference("shop");
    let name = VariableName::new("APP_SECRET_KEY").unwrap();
    sources.insert(name.clone(), SecretSource::Sealed(sealed("k", seal(&public, &secret("sealed")).unwrap())));
    let opened = open(&sources, project, &ring, Some(dir.path()), false).unwrap();
    let values: Vec<(&str, &str)> = opened.values.iter().map(|(n, v)| (n.as_str(), v.expose_secret())).collect();
    assert_eq!(values, [("APP_SECRET_KEY", "sealed"), ("TELEGRAM_BOT_TOKEN", "mounted")]);
    assert_eq!(opened.unbound, [name].into(), "the box says for nobody that it's his");
}

#[test]
fn a_reference_reads_what_is_its_projects_or_its_owners_and_nothing_else() {
    let (dir, project, own) = mounted();
    let (owners, others) = (dir.path().join("owners/acme"), dir.path().join("owners/evil"));
    fs::create_dir_all(&owners).unwrap();
    fs::create_dir_all(&others).unwrap();
    for (path, value) in [
        (own.join("both"), "project's"),
        (owners.join("both"), "owner's"),
        (owners.join("one"), "owner's"),
        (others.join("theirs"), "hunter2"),
        (dir.path().join("both"), "everybody's"),
        (dir.path().join("flat"), "everybody's"),
    ] {
        fs::write(path, value).unwrap();
    }
    let another = ProjectId(uuid::Uuid::new_v4());
    let read = |project, name: &str, unscoped| {
        let opened = open(&reference(name), project, &KeyRing::default(), Some(dir.path()), unscoped);
        opened.map(|o| (o.values.values().next().unwrap().expose_secret().to_owned(), !o.unbound.is_empty()))
    };
    for (project, name, value) in
        [(project, "both", "project's"), (another, "both", "owner's"), (project, "one", "owner's")]
    {
        assert_eq!(read(project, name, false).unwrap(), (value.to_owned(), false), "{name}");
    }
    assert_eq!(read(project, "flat", true).unwrap(), ("everybody's".to_owned(), true));
    for (name, unscoped) in [("flat", false), ("theirs", true), ("theirs", false), ("projects", true), ("owners", true)]
    {
        let error = read(project, name, unscoped).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownSecretReference, "{name}");
        assert!(!error.message.contains("hunter2") && !error.message.contains("evil"), "{}", error.message);
    }
    assert!(has_unscoped(dir.path()) && !has_unscoped(&dir.path().join("owners")));
}

#[test]
fn a_reference_cannot_leave_its_folder_and_is_never_repeated() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "hunter2").unwrap();
    let (dir, project, own) = mounted();
    fs::create_dir_all(dir.path().join("owners/evil")).unwrap();
    fs::write(dir.path().join("owners/evil/theirs"), "hunter2").unwrap();
    symlink(outside.path().join("passwd"), own.join("leak")).unwrap();
    symlink(dir.path().join("owners/evil/theirs"), own.join("neighbour")).unwrap();
    fs::create_dir(own.join("directory")).unwrap();
    fs::write(own.join("binary"), [0xff, 0xfe]).unwrap();
    fs::write(own.join("huge"), vec![b'a'; 70_000]).unwrap();
    let cases = [
        ("leak", "leads out of the directory"),
        ("neighbour", "leads out of the directory"),
        ("directory", "isn't a regular file"),
        ("binary", "isn't UTF-8"),
        ("huge", "64 KiB"),
        ("ghp_looksLikeAToken", "isn't mounted"),
    ];
    for (name, problem) in cases {
        for unscoped in [false, true] {
            let error = open(&reference(name), project, &KeyRing::default(), Some(dir.path()), unscoped).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnknownSecretReference);
            assert!(error.message.starts_with("secret TELEGRAM_BOT_TOKEN: "), "{}", error.message);
            assert!(error.message.contains(problem), "{name}: {}", error.message);
            assert!(!error.message.contains("ghp_") && !error.message.contains("hunter2"), "{}", error.message);
        }
    }
    let error = open(&reference("shop"), project, &KeyRing::default(), None, false).unwrap_err();
    assert!(error.message.contains("no directory of mounted secrets"), "{}", error.message);
}
