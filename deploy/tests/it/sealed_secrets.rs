//! Sealed boxes, the key ring and mounted secrets, through files and through PyNaCl, the other side's library.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_deploy::secrets::seal::{KeyRing, generate, open_all, seal};
use slipway_protocol::names::{SecretReference, VariableName};
use slipway_protocol::{ErrorCode, SealedSecret, SecretSource};
use tempfile::TempDir;

fn put_key(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// A ring with one key, as an operator would make it.
fn ring(key_id: &str) -> (TempDir, KeyRing, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = generate(key_id).unwrap();
    put_key(dir.path(), &format!("{key_id}.key"), &format!("{}\n", private.expose_secret()));
    let ring = KeyRing::load(dir.path()).unwrap();
    assert_eq!(ring.public_keys(), BTreeMap::from([(key_id.to_owned(), public.clone())]));
    (dir, ring, STANDARD.decode(public).unwrap())
}

fn sealed(key_id: &str, sealed_box: String) -> SealedSecret {
    SealedSecret { key_id: key_id.to_owned(), sealed_box }
}

fn secret(value: &str) -> SecretString {
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

fn reference(name: &str) -> BTreeMap<VariableName, SecretSource> {
    let source = SecretSource::Reference(SecretReference::new(name).unwrap());
    BTreeMap::from([(VariableName::new("TELEGRAM_BOT_TOKEN").unwrap(), source)])
}

#[test]
fn a_mounted_secret_loses_one_newline_and_nothing_else() {
    let mounted = tempfile::tempdir().unwrap();
    for (content, value) in [("a\n", "a"), ("a\n\n", "a\n"), ("a", "a"), (" a \n", " a "), ("", "")] {
        fs::write(mounted.path().join("shop.token"), content).unwrap();
        let opened = open_all(&reference("shop.token"), &KeyRing::default(), Some(mounted.path())).unwrap();
        assert_eq!(opened.values().next().unwrap().expose_secret(), value);
    }
}

#[test]
fn sealed_and_mounted_secrets_are_opened_together() {
    let (_dir, ring, public) = ring("k");
    let mounted = tempfile::tempdir().unwrap();
    // As Kubernetes mounts: a link to a link into a directory of the version.
    fs::create_dir(mounted.path().join("..2026")).unwrap();
    fs::write(mounted.path().join("..2026/shop"), "mounted\n").unwrap();
    symlink("..2026", mounted.path().join("..data")).unwrap();
    symlink("..data/shop", mounted.path().join("shop")).unwrap();
    let mut sources = reference("shop");
    let name = VariableName::new("APP_SECRET_KEY").unwrap();
    sources.insert(name, SecretSource::Sealed(sealed("k", seal(&public, &secret("sealed")).unwrap())));
    let opened = open_all(&sources, &ring, Some(mounted.path())).unwrap();
    let values: Vec<(&str, &str)> = opened.iter().map(|(n, v)| (n.as_str(), v.expose_secret())).collect();
    assert_eq!(values, [("APP_SECRET_KEY", "sealed"), ("TELEGRAM_BOT_TOKEN", "mounted")]);
}

#[test]
fn a_reference_cannot_leave_the_directory_and_is_never_repeated() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "hunter2").unwrap();
    let mounted = tempfile::tempdir().unwrap();
    symlink(outside.path().join("passwd"), mounted.path().join("leak")).unwrap();
    fs::create_dir(mounted.path().join("directory")).unwrap();
    fs::write(mounted.path().join("binary"), [0xff, 0xfe]).unwrap();
    fs::write(mounted.path().join("huge"), vec![b'a'; 70_000]).unwrap();
    let cases = [
        ("leak", "leads out of the directory"),
        ("directory", "isn't a regular file"),
        ("binary", "isn't UTF-8"),
        ("huge", "64 KiB"),
        ("ghp_looksLikeAToken", "isn't mounted"),
    ];
    for (name, problem) in cases {
        let error = open_all(&reference(name), &KeyRing::default(), Some(mounted.path())).unwrap_err();
        assert_eq!(error.code, ErrorCode::UnknownSecretReference);
        assert!(error.message.starts_with("secret TELEGRAM_BOT_TOKEN: "), "{}", error.message);
        assert!(error.message.contains(problem), "{name}: {}", error.message);
        assert!(!error.message.contains("ghp_") && !error.message.contains("hunter2"), "{}", error.message);
    }
    let error = open_all(&reference("shop"), &KeyRing::default(), None).unwrap_err();
    assert!(error.message.contains("no directory of mounted secrets"), "{}", error.message);
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
