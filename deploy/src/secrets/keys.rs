//! SSH keys: a project's deploy key, and servers' keys encrypted with age. Logging in with them is in `remote::ssh`, and
//! the keys that secrets are sealed to are in `seal`.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::ErrorCode;
use zeroize::Zeroizing;

use super::private_file;
use crate::StageError;
use crate::remote::ssh::private_key;

const KEY_TYPE: &[u8] = b"ssh-ed25519";
/// No SSH key comes near this size.
const MAX_KEY_BYTES: u64 = 64 * 1024;

/// An Ed25519 key pair for SSH.
#[derive(Debug)]
pub struct DeployKey {
    /// The private half in OpenSSH's own format, not encrypted.
    pub private: SecretString,
    /// The public half as a line of `authorized_keys`, without options and newline.
    pub public: String,
}

impl DeployKey {
    /// A fresh pair. The comment ends the public line.
    ///
    /// # Errors
    /// `internal-error` when the comment isn't printable ASCII without surrounding spaces, or the system gives no
    /// random numbers.
    pub fn generate(comment: &str) -> Result<Self, StageError> {
        let failed = |why: &str| StageError::new(ErrorCode::InternalError, format!("no deploy key was made: {why}"));
        if comment != comment.trim() || !comment.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(failed("its comment must be printable ASCII"));
        }
        let no_random = |_| failed("the system gives no random numbers");
        let random = SystemRandom::new();
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(seed.as_mut()).map_err(no_random)?;
        let mut check = [0; 4];
        random.fill(&mut check).map_err(no_random)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| failed("ring refuses the seed"))?;
        let public: &[u8] = pair.public_key().as_ref();

        let public_blob = [field(KEY_TYPE), field(public)].concat();
        let line = format!("ssh-ed25519 {} {comment}", STANDARD.encode(&public_blob));
        Ok(Self {
            private: openssh_private_key(&seed, public, &public_blob, check, comment),
            public: line.trim_end().to_owned(),
        })
    }
}

/// OpenSSH's `PROTOCOL.key`: one unencrypted Ed25519 key.
fn openssh_private_key(
    seed: &[u8; 32],
    public: &[u8],
    public_blob: &[u8],
    check: [u8; 4],
    comment: &str,
) -> SecretString {
    // Sized ahead, so that growing leaves no copy of the seed behind.
    let mut private = Zeroizing::new(Vec::with_capacity(256 + comment.len()));
    private.extend_from_slice(&check);
    private.extend_from_slice(&check);
    put(&mut private, KEY_TYPE);
    put(&mut private, public);
    put_length(&mut private, seed.len() + public.len());
    private.extend_from_slice(seed);
    private.extend_from_slice(public);
    put(&mut private, comment.as_bytes());
    // Padded with 1, 2, 3… to the block size of "none".
    let padding = private.len().next_multiple_of(8) - private.len();
    private.extend((1u8..).take(padding));

    let mut file = Zeroizing::new(Vec::with_capacity(512 + 2 * comment.len()));
    file.extend_from_slice(b"openssh-key-v1\0");
    put(&mut file, b"none");
    put(&mut file, b"none");
    put(&mut file, b"");
    file.extend_from_slice(&1u32.to_be_bytes());
    put(&mut file, public_blob);
    put(&mut file, &private);

    let encoded = Zeroizing::new(STANDARD.encode(&*file));
    let mut pem = String::with_capacity(encoded.len() + encoded.len() / 70 + 128);
    pem.push_str("-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(70));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END OPENSSH PRIVATE KEY-----\n");
    pem.into()
}

/// RFC 4251 `string`: length, then bytes.
fn field(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, bytes);
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // A key and its comment are far below 4 GiB.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

/// A key that opens what was encrypted with age, and what to encrypt to.
#[derive(Debug)]
pub struct AgeIdentity {
    /// `AGE-SECRET-KEY-1…`: the content of the identity file.
    pub identity: SecretString,
    /// The public half, `age1…`, to which servers' keys are encrypted.
    pub recipient: String,
}

impl AgeIdentity {
    /// Draws a new identity at random.
    #[must_use]
    pub fn generate() -> Self {
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        Self { identity: identity.to_string(), recipient }
    }
}

/// Encrypts a server's private key with age to a recipient (`age1…`); armored text.
///
/// # Errors
/// `ssh-key-unusable` when that is no private key or no recipient.
pub fn encrypt_ssh_key(key: &SecretString, recipient: &str) -> Result<String, StageError> {
    check_private_key(key)?;
    let recipient: age::x25519::Recipient =
        recipient.trim().parse().map_err(|_| unusable("the recipient isn't an age recipient (age1…)"))?;
    age::encrypt_and_armor(&recipient, key.expose_secret().as_bytes())
        .map_err(|error| unusable(format!("age couldn't encrypt it: {error}")))
}

/// Opens a server's private key that was encrypted with age (armored), with the identities of a file.
///
/// # Errors
/// `ssh-key-unusable` when the file or the text can't be used, no identity fits, or what comes out is no private key.
pub fn decrypt_ssh_key(ssh_key_enc: &str, identity_file: &Path) -> Result<SecretString, StageError> {
    let identities = read_identities(identity_file)?;
    let armored = age::armor::ArmoredReader::new(ssh_key_enc.trim().as_bytes());
    let decryptor =
        age::Decryptor::new_buffered(armored).map_err(|_| unusable("ssh_key_enc isn't text encrypted with age"))?;
    let reader = decryptor.decrypt(identities.iter().map(AsRef::as_ref)).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => {
            unusable(format!("ssh_key_enc isn't encrypted to any identity of {}", identity_file.display()))
        }
        other => unusable(format!("ssh_key_enc can't be opened: {other}")),
    })?;
    let mut key = Zeroizing::new(String::with_capacity(16 * 1024));
    reader
        .take(MAX_KEY_BYTES)
        .read_to_string(&mut key)
        .map_err(|_| unusable("ssh_key_enc is damaged or doesn't hold text"))?;
    let key = SecretString::from(key.as_str());
    check_private_key(&key)?;
    Ok(key)
}

fn read_identities(path: &Path) -> Result<Vec<Box<dyn age::Identity>>, StageError> {
    let text = private_file::read(path).map_err(|error| unusable(format!("the age identity file {error}")))?;
    let refuse = || unusable(format!("the age identity file {}: holds no AGE-SECRET-KEY-1… line", path.display()));
    let file = age::IdentityFile::from_buffer(text.as_bytes()).map_err(|_| refuse())?;
    let identities = file.into_identities().map_err(|_| refuse())?;
    if identities.is_empty() { Err(refuse()) } else { Ok(identities) }
}

fn check_private_key(key: &SecretString) -> Result<(), StageError> {
    private_key::check(key).map_err(|error| unusable(format!("it {}", error.message)))
}

fn unusable(why: impl Into<String>) -> StageError {
    StageError::new(ErrorCode::SshKeyUnusable, why)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::process::Command;

    fn private_file(dir: &tempfile::TempDir, name: &str, content: &str) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn ssh_keygen(args: &[&str], file: &Path) -> String {
        let output = Command::new("ssh-keygen").args(args).arg("-f").arg(file).output().unwrap();
        assert!(output.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn openssh_reads_the_private_half_and_derives_the_same_public_half() {
        let dir = tempfile::tempdir().unwrap();
        // Every length of padding.
        for comment in ["", "a", "slipway shop", "slipway:shop@vps-1", "abc", "abcd", "abcde", "abcdef", "abcdefg"] {
            let key = DeployKey::generate(comment).unwrap();
            let file = private_file(&dir, "key", key.private.expose_secret());
            assert_eq!(ssh_keygen(&["-y"], &file).trim_end(), key.public, "comment {comment:?}");
        }
    }

    #[test]
    fn two_deploy_keys_differ_and_debug_shows_no_private_half() {
        let (one, two) = (DeployKey::generate("slipway").unwrap(), DeployKey::generate("slipway").unwrap());
        assert_ne!(one.public, two.public);
        assert!(!format!("{one:?}").contains("PRIVATE"), "{one:?}");
    }

    #[test]
    fn a_comment_cannot_begin_another_line_of_authorized_keys() {
        for comment in ["a\nssh-ed25519 AAAA", " a", "a\r", "ü", "a\0"] {
            assert_eq!(DeployKey::generate(comment).unwrap_err().code, ErrorCode::InternalError, "{comment:?}");
        }
    }

    #[test]
    fn a_servers_key_survives_encryption_and_a_stranger_cannot_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, strangers) = (AgeIdentity::generate(), AgeIdentity::generate());
        let key = DeployKey::generate("fleet").unwrap().private;
        let encrypted = encrypt_ssh_key(&key, &ours.recipient).unwrap();
        assert!(encrypted.starts_with("-----BEGIN AGE ENCRYPTED FILE-----"), "{encrypted}");

        // As age-keygen writes it, with an old identity beside the right one.
        let content = format!(
            "# created: today\n{}\n\n# old\n{}\n",
            strangers.identity.expose_secret(),
            ours.identity.expose_secret()
        );
        let file = private_file(&dir, "identities", &content);
        assert_eq!(decrypt_ssh_key(&encrypted, &file).unwrap().expose_secret(), key.expose_secret());

        let file = private_file(&dir, "stranger", strangers.identity.expose_secret());
        let error = decrypt_ssh_key(&encrypted, &file).unwrap_err();
        assert_eq!(error.code, ErrorCode::SshKeyUnusable);
        assert!(error.message.contains("isn't encrypted to any identity of"), "{}", error.message);
    }

    #[test]
    fn what_is_no_key_no_identity_or_no_age_text_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let ours = AgeIdentity::generate();
        let key = DeployKey::generate("fleet").unwrap().private;
        let good = encrypt_ssh_key(&key, &ours.recipient).unwrap();
        let identity = private_file(&dir, "identity", ours.identity.expose_secret());
        let empty = private_file(&dir, "empty", "# nothing\n");
        let nonsense = private_file(&dir, "nonsense", "hunter2\n");
        let open = private_file(&dir, "open", ours.identity.expose_secret());
        fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
        let recipient: age::x25519::Recipient = ours.recipient.parse().unwrap();
        let no_key = age::encrypt_and_armor(&recipient, b"hunter2").unwrap();
        let mut damaged = good.clone().into_bytes();
        let middle = damaged.len() / 2;
        damaged[middle] = if damaged[middle] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).unwrap();

        let message = |text: &str, file: &Path| {
            let error = decrypt_ssh_key(text, file).unwrap_err();
            assert_eq!(error.code, ErrorCode::SshKeyUnusable);
            assert!(!error.message.contains("hunter2"), "{}", error.message);
            error.message
        };
        assert!(message(&good, &empty).contains("holds no AGE-SECRET-KEY"));
        assert!(message(&good, &nonsense).contains("holds no AGE-SECRET-KEY"));
        assert!(message(&good, &open).contains("mode 0644"));
        assert!(message("hunter2", &identity).contains("isn't text encrypted with age"));
        assert!(message(&no_key, &identity).contains("isn't a private key"));
        assert!(message(&damaged, &identity).contains("ssh_key_enc"));
        assert!(encrypt_ssh_key(&"hunter2".to_owned().into(), &ours.recipient).is_err());
        assert!(encrypt_ssh_key(&key, "age1nobody").unwrap_err().message.contains("recipient"));
    }
}
