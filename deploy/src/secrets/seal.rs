//! Sealed boxes (X25519, XSalsa20-Poly1305), as PyNaCl's `SealedBox` and GitHub use them. The only file that seals or
//! opens one.
//!
//! Deliberately not here: whose the values are (`bound`), mounted secrets (`mounted`), and the event's shape, which
//! `protocol` checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::OsRng;
use crypto_box::{PublicKey, SecretKey};
use ring::agreement::{self, UnparsedPublicKey, X25519};
use ring::rand::SystemRandom;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::InvalidName;
use slipway_protocol::{ErrorCode, SealedSecret};
use zeroize::{Zeroize as _, Zeroizing};

use super::private_file::{self, KeyFileError};
use crate::StageError;

/// A public key that nothing may be sealed to: not 32 bytes, or of low order, so that anybody could open the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a usable X25519 public key")]
pub struct UnusablePublicKey;

/// The workers' private keys, by key id. Several at once, so that a key can be rotated while events that were sealed to
/// the old one still wait. Only where they are is kept: each is read anew whenever a box names it.
#[derive(Default)]
pub struct KeyRing {
    directory: Option<PathBuf>,
    public: BTreeMap<String, String>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("ids", &self.public.keys()).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Tries every `<key_id>.key` of a directory: base64 of 32 bytes. Other files are left alone.
    ///
    /// # Errors
    /// [`KeyFileError`] when there is none, or one has a name, content or mode that it shouldn't have.
    pub fn load(directory: &Path) -> Result<Self, KeyFileError> {
        let mut public = BTreeMap::new();
        for id in key_ids(directory)? {
            let path = key_path(directory, &id);
            check_key_id(&id).map_err(|error| KeyFileError::new(&path, error.to_string()))?;
            let key = read_key(&path)?;
            public.insert(id, STANDARD.encode(key.public_key().as_bytes()));
        }
        if public.is_empty() {
            return Err(KeyFileError::new(directory, "holds no .key file; make one with `slipway keys generate`"));
        }
        Ok(Self { directory: Some(directory.to_owned()), public })
    }

    /// Opens a box with the key that it names.
    ///
    /// # Errors
    /// `unknown-sealing-key` when that key isn't here, `sealing-key-unusable` when it's here and can't be read,
    /// `sealed-secret-unreadable` when it doesn't fit or the content isn't UTF-8.
    pub fn open(&self, sealed: &SealedSecret) -> Result<SecretString, StageError> {
        let key = self.read(&sealed.key_id)?;
        let unreadable = |why: &str| {
            let message = format!("the box doesn't open with the key {}: {why}", sealed.key_id);
            StageError::new(ErrorCode::SealedSecretUnreadable, message)
        };
        let sealed_box = sealed.bytes().ok_or_else(|| unreadable("it isn't base64 of a sealed box"))?;
        let opened = key.unseal(&sealed_box).map_err(|_| unreadable("it was sealed to another key or was changed"))?;
        secret_text(opened).ok_or_else(|| unreadable("its content isn't UTF-8"))
    }

    fn read(&self, id: &str) -> Result<SecretKey, StageError> {
        // The id came from outside: it's a file's name, and shown, only when it looks like one.
        let known = check_key_id(id).is_ok();
        if let (true, Some(directory)) = (known, &self.directory) {
            let path = key_path(directory, id);
            let absent = fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            if !absent {
                let unusable = |error: KeyFileError| StageError::new(ErrorCode::SealingKeyUnusable, error.to_string());
                return read_key(&path).map_err(unusable);
            }
        }
        let held = self.directory.as_deref().map(key_ids).transpose();
        let held = held.map_err(|error| StageError::new(ErrorCode::SealingKeyUnusable, error.to_string()))?;
        let held = held.unwrap_or_default().into_iter().collect::<Vec<_>>().join(", ");
        let shown = if known { id } else { "with an odd name" };
        let message = format!("sealed to the key {shown}, but the workers hold [{held}]");
        Err(StageError::new(ErrorCode::UnknownSealingKey, message))
    }

    /// The public keys in base64, by key id, as they were when the directory was tried: what producers seal to.
    #[must_use]
    pub fn public_keys(&self) -> BTreeMap<String, String> {
        self.public.clone()
    }
}

/// The names of the `.key` files.
fn key_ids(directory: &Path) -> Result<BTreeSet<String>, KeyFileError> {
    let unreadable = |error: io::Error| KeyFileError::new(directory, format!("can't be read: {error}"));
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // Kubernetes keeps `..data` and the like beside what it mounts.
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        ids.extend(name.strip_suffix(".key").filter(|_| !name.starts_with('.')).map(str::to_owned));
    }
    Ok(ids)
}

fn key_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.key"))
}

/// A fresh key pair, both halves in base64: the content of `<key_id>.key`, and what producers seal to.
///
/// # Errors
/// [`InvalidName`] when the id can't name a key.
pub fn generate(key_id: &str) -> Result<(SecretString, String), InvalidName> {
    check_key_id(key_id)?;
    let key = SecretKey::generate(&mut OsRng);
    let bytes = Zeroizing::new(key.to_bytes());
    Ok((STANDARD.encode(*bytes).into(), STANDARD.encode(key.public_key().as_bytes())))
}

/// Seals `value` to a public key; the box in base64.
///
/// # Errors
/// [`UnusablePublicKey`] for a key of the wrong length, of zeros, or otherwise of low order.
pub fn seal(public_key: &[u8], value: &SecretString) -> Result<String, UnusablePublicKey> {
    check_public_key(public_key)?;
    let key = PublicKey::from_slice(public_key).map_err(|_| UnusablePublicKey)?;
    let sealed = key.seal(&mut OsRng, value.expose_secret().as_bytes()).map_err(|_| UnusablePublicKey)?;
    Ok(STANDARD.encode(sealed))
}

/// The bytes as a secret, or nothing and no trace of them when they aren't UTF-8.
pub(super) fn secret_text(bytes: Vec<u8>) -> Option<SecretString> {
    match String::from_utf8(bytes) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            error.into_bytes().zeroize();
            None
        }
    }
}

fn read_key(path: &Path) -> Result<SecretKey, KeyFileError> {
    let refuse = |why| KeyFileError::new(path, why);
    let text = private_file::read(path)?;
    let decoded = STANDARD.decode(text.trim()).map_err(|_| refuse("isn't base64"))?;
    let decoded = Zeroizing::new(decoded);
    if decoded.iter().all(|byte| *byte == 0) {
        return Err(refuse("is a key of zeros; make one with `slipway keys generate`"));
    }
    SecretKey::from_slice(&decoded).map_err(|_| refuse("must be base64 of 32 bytes"))
}

/// `crypto_box` seals to any 32 bytes, zeros among them. An agreement with a point of low order gives zeros, which
/// ring refuses.
fn check_public_key(public_key: &[u8]) -> Result<(), UnusablePublicKey> {
    let ours =
        agreement::EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| UnusablePublicKey)?;
    let theirs = UnparsedPublicKey::new(&X25519, public_key);
    agreement::agree_ephemeral(ours, &theirs, |_| ()).map_err(|_| UnusablePublicKey)
}

/// A key id names a file and is part of every event that was sealed to it.
fn check_key_id(id: &str) -> Result<(), InvalidName> {
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if first && rest && id.len() <= 64 {
        Ok(())
    } else {
        Err(InvalidName { what: "sealing key id", rule: "match ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" })
    }
}
