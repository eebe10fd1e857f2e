//! Sealed boxes and the key ring, through files and through PyNaCl, the other side's library.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_deploy::secrets::bound::{SecretOwner, seal_for};
use slipway_deploy::secrets::seal::{KeyRing, generate, seal};
use slipway_protocol::{ErrorCode, ProjectId, SealedSecret};
use tempfile::TempDir;

fn put_key(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// A ring with one key, as an operator would make it.
pub(crate) fn ring(key_id: &str) -> (TempDir, KeyRing, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = generate(key_id).unwrap();
    put_key(dir.path(), &format!("{key_id}.key"), &format!("{}\n", private.expose_secret()));
    let ring = KeyRing::load(dir.path()).unwrap();
    assert_eq!(ring.public_keys(), BTreeMap::from([(key_id.to_owned(), public.clone())]));
    (dir, ring, STANDARD.decode(public).unwrap())
}

pub(crate) fn sealed(key_id: &str, sealed_box: String) -> SealedSecret {
    SealedSecret { key_id: key_id.to_owned(), sealed_box }
}

pub(crate) fn secret(value: &str) -> SecretString {
    value.to_owned().into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_sealed_opens_again_and_no_two_boxes_are_alike(value in "\\PC{0,200}") {
        let (_dir, ring, public) = ring("2026-11");
        let one = seal(&public, &secret(&value)).unwrap();
        let two = seal(&public, &secret(&value)).unwrap();
        prop_assert_ne!(&one, &two);
        let opened = ring.open(&sealed("2026-11", one)).unwrap();
        prop_assert_eq!(opened.expose_secret(), value.as_str());
    }

    #[test]
    fn a_box_with_any_bit_changed_is_refused(bit in 0usize..8 * 64) {
        let (_dir, ring, public) = ring("k");
        let mut bytes = STANDARD.decode(seal(&public, &secret("sixteen bytes...")).unwrap()).unwrap();
        // The top bit of the ephemeral key is no part of the point, but it is part of the nonce.
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = ring.open(&sealed("k", STANDARD.encode(bytes))).unwrap_err();
        prop_assert_eq!(error.code, ErrorCode::SealedSecretUnreadable);
    }
}

#[test]
fn nothing_is_sealed_to_a_key_that_anybody_could_open() {
    let one = {
        let mut p = [0u8; 32];
        p[0] = 1;
        p
    };
    let order_eight = STANDARD.decode("4Ot6fDtBuK4WVuP68Z/EatoJjeucMrH9hmIFFl9JuAA=").unwrap();
    for bad in [vec![], vec![7; 31], vec![7; 33], vec![0; 32], one.to_vec(), order_eight] {
        assert!(seal(&bad, &secret("x")).is_err(), "{bad:?}");
    }
}

#[test]
fn an_unknown_key_and_an_unreadable_box_are_told_apart() {
    let (_dir, ring, public) = ring("new");
    let value = seal(&public, &secret("hunter2")).unwrap();
    let unknown = ring.open(&sealed("old", value.clone())).unwrap_err();
    assert_eq!(unknown.code, ErrorCode::UnknownSealingKey);
    assert_eq!(unknown.message, "sealed to the key old, but the workers hold [new]");
    let odd = ring.open(&sealed("hun ter\n2", value)).unwrap_err();
    assert_eq!(odd.message, "sealed to the key with an odd name, but the workers hold [new]");

    let (_private, other) = generate("new").unwrap();
    let foreign = seal(&STANDARD.decode(other).unwrap(), &secret("hunter2")).unwrap();
    for unreadable in [foreign, STANDARD.encode([1; 47]), "not base64".to_owned()] {
        let error = ring.open(&sealed("new", unreadable)).unwrap_err();
        assert_eq!(error.code, ErrorCode::SealedSecretUnreadable);
    }
}

#[test]
fn a_ring_of_two_keys_opens_boxes_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let made: Vec<(&str, String)> = ["old", "new"]
        .into_iter()
        .map(|id| {
            let (private, public) = generate(id).unwrap();
            put_key(dir.path(), &format!("{id}.key"), private.expose_secret());
            (id, public)
        })
        .collect();
    // What lies about beside keys, such as Kubernetes' own links, is left alone.
    put_key(dir.path(), "new.pub", "not a private key");
    put_key(dir.path(), "..data.key", "neither");
    let ring = KeyRing::load(dir.path()).unwrap();
    for (id, public) in made {
        let value = seal(&STANDARD.decode(public).unwrap(), &secret(id)).unwrap();
        assert_eq!(ring.open(&sealed(id, value)).unwrap().expose_secret(), id);
    }
    assert_eq!(format!("{ring:?}"), r#"KeyRing { ids: ["new", "old"], .. }"#);
}

#[test]
fn a_key_that_was_replaced_counts_at_once_and_one_that_broke_is_told() {
    let (dir, ring, old) = ring("2026-11");
    let (of_old, other) = (seal(&old, &secret("old")).unwrap(), generate("2026-11").unwrap());
    let of_new = seal(&STANDARD.decode(&other.1).unwrap(), &secret("new")).unwrap();
    let code = |id: &str, sealed_box: &str| match ring.open(&sealed(id, sealed_box.to_owned())) {
        Ok(value) => value.expose_secret().to_owned(),
        Err(error) => error.code.to_string(),
    };
    assert_eq!(code("2026-11", &of_old), "old");
    let file = put_key(dir.path(), "2026-11.key", other.0.expose_secret());
    assert_eq!((code("2026-11", &of_new), code("2026-11", &of_old)), ("new".into(), "sealed-secret-unreadable".into()));
    put_key(dir.path(), "2026-12.key", other.0.expose_secret());
    assert_eq!(code("2026-12", &of_new), "new", "a key that was added");
    for broken in ["", "hunter2!"] {
        put_key(dir.path(), "2026-11.key", broken);
        let error = ring.open(&sealed("2026-11", of_new.clone())).unwrap_err();
        assert_eq!(error.code, ErrorCode::SealingKeyUnusable);
        assert!(error.message.contains("2026-11.key") && !error.message.contains("hunter2"), "{error}");
    }
    assert_eq!(code("2026-12", &of_new), "new", "the others are none the worse");
    put_key(dir.path(), "2026-11.key", other.0.expose_secret());
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code("2026-11", &of_new), "sealing-key-unusable", "as at the start");
    fs::remove_file(&file).unwrap();
    assert_eq!(code("2026-11", &of_new), "unknown-sealing-key");
    assert_eq!(code("../2026-12", &of_new), "unknown-sealing-key");
    drop(dir);
    assert_eq!(code("2026-12", &of_new), "sealing-key-unusable", "the whole directory is gone");
}

#[test]
fn a_bad_key_file_is_refused_by_name_and_never_shown() {
    let cases = [
        ("short.key", STANDARD.encode([9; 31]), 0o600, "must be base64 of 32 bytes"),
        ("long.key", STANDARD.encode([9; 33]), 0o600, "must be base64 of 32 bytes"),
        ("zero.key", STANDARD.encode([0; 32]), 0o600, "a key of zeros"),
        ("empty.key", String::new(), 0o600, "zeros"),
        ("text.key", "hunter2!".to_owned(), 0o600, "isn't base64"),
        ("group.key", STANDARD.encode([9; 32]), 0o640, "mode 0640"),
        ("world.key", STANDARD.encode([9; 32]), 0o604, "mode 0604"),
        ("a b.key", STANDARD.encode([9; 32]), 0o600, "sealing key id must match"),
    ];
    for (name, content, mode, problem) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = put_key(dir.path(), name, &content);
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = KeyRing::load(dir.path()).unwrap_err();
        assert_eq!(error.path, path);
        assert!(error.problem.contains(problem), "{name}: {error}");
        assert!(content.is_empty() || !error.to_string().contains(&content), "{error}");
    }
    let empty = tempfile::tempdir().unwrap();
    assert!(KeyRing::load(empty.path()).unwrap_err().problem.contains("holds no .key file"));
    assert!(KeyRing::load(&empty.path().join("none")).unwrap_err().problem.contains("can't be read"));
    assert!(generate("../key").is_err());
}

/// Runs a program of Python with the libraries that `tests/prepare` installs; the input goes through stdin.
fn python(program: &str, input: &str) -> String {
    let cache = std::env::var_os("SLIPWAY_CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache")).join("slipway")
    });
    let interpreter = cache.join("venv/bin/python");
    let mut child = Command::new(&interpreter)
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{} with PyNaCl is needed; run tests/prepare ({e})", interpreter.display()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "python: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn we_open_what_pynacl_seals() {
    let (_dir, ring, public) = ring("k");
    let program = "\
import base64, sys
from nacl.public import PublicKey, SealedBox
key, value = sys.stdin.read().split('\\n', 1)
box = SealedBox(PublicKey(base64.b64decode(key))).encrypt(value.encode())
print(base64.b64encode(box).decode())";
    let value = "123456:ÄÖ'\"$\\ü";
    let from_python = python(program, &format!("{}\n{value}", STANDARD.encode(public)));
    assert_eq!(ring.open(&sealed("k", from_python)).unwrap().expose_secret(), value);
}

#[test]
fn pynacl_opens_what_we_seal() {
    let (private, public) = generate("k").unwrap();
    let value = "123456:ÄÖ'\"$\\ü";
    let ours = seal(&STANDARD.decode(public).unwrap(), &secret(value)).unwrap();
    let program = "\
import base64, sys
from nacl.public import PrivateKey, SealedBox
key, box = (base64.b64decode(line) for line in sys.stdin.read().split('\\n'))
print(base64.b64encode(SealedBox(PrivateKey(key)).decrypt(box)).decode())";
    let opened = python(program, &format!("{}\n{ours}", private.expose_secret()));
    assert_eq!(STANDARD.decode(opened).unwrap(), value.as_bytes());
}

#[test]
fn a_box_that_the_contract_file_seals_for_a_project_opens_for_that_project_alone() {
    let (_dir, ring, public) = ring("k");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/python");
    let program = format!(
        "\
import sys
sys.path.insert(0, {file:?})
import slipway_events
key, project, value = sys.stdin.read().split('\\n', 2)
print(slipway_events.seal(value, 'k', key, project=project, name='BOT_TOKEN').sealed.sealed_box)"
    );
    let value = "123456:ÄÖ'\"$\\\n\u{1F600}";
    let (id, other) = (ProjectId(uuid::Uuid::new_v4()), ProjectId(uuid::Uuid::new_v4()));
    let boxed = sealed("k", python(&program, &format!("{}\n{id}\n{value}", STANDARD.encode(public))));
    let open = |project, name| ring.open_for(&boxed, SecretOwner { project, name }, true);
    let opened = open(id, "BOT_TOKEN").unwrap();
    assert_eq!((opened.value.expose_secret(), opened.bound), (value, true));
    for (project, name) in [(other, "BOT_TOKEN"), (id, "BOT_TOKEN_2")] {
        assert_eq!(open(project, name).unwrap_err().code, ErrorCode::SecretNotForProject);
    }
}

#[test]
fn a_box_says_whose_it_is_and_the_old_form_opens_while_it_may() {
    let (_dir, ring, public) = ring("k");
    let project = ProjectId(uuid::Uuid::new_v4());
    let owner = SecretOwner { project, name: "A" };
    let boxed = |text: &str| sealed("k", seal(&public, &secret(text)).unwrap());
    let old = boxed("hunter2");
    let opened = ring.open_for(&old, owner, true).unwrap();
    assert_eq!((opened.value.expose_secret(), opened.bound), ("hunter2", false));
    let error = ring.open_for(&old, owner, false).unwrap_err();
    assert_eq!(error.code, ErrorCode::SecretNotForProject);
    let new = sealed("k", seal_for(&public, owner, &secret("hunter2")).unwrap());
    for unbound in [true, false] {
        assert_eq!(ring.open_for(&new, owner, unbound).unwrap().value.expose_secret(), "hunter2");
    }
    // What begins like the new form is never read as the old one.
    for content in ["", "{}", "hunter2", r#"{"project":"x","name":"A","value":"hunter2"}"#, r#"{"value":"hunter2"}"#] {
        let error = ring.open_for(&boxed(&format!("slipway.sealed.v1:{content}")), owner, true).unwrap_err();
        assert_eq!(error.code, ErrorCode::SealedSecretUnreadable, "{content}");
        assert!(!error.message.contains("hunter2"), "{}", error.message);
    }
}
