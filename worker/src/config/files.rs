//! Secrets and certificates that the environment names by path, tried at the start; credentials are read anew later, at each
//! use. A file that other users may read is refused when it holds a private key, and warned about when it holds another
//! secret.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_deploy::github::check_app_key;
use slipway_deploy::remote::ssh::private_key;

use super::parse::ParseError;
use super::registry_login::{LOGIN_RULE, parse_login};

/// No secret is larger, in bytes; a wrong path to something huge isn't read into memory.
const MAX_BYTES: u64 = 64 * 1024;

/// The content of a secret file, without the line break at its end.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// The text; `Debug` doesn't show it.
    pub content: SecretString,
    /// Set when other users of this machine may read the file.
    pub warning: Option<String>,
}

/// A PEM file that was read once to prove that it holds certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFile(pub PathBuf);

pub(super) fn secret_file(value: &str) -> Result<SecretFile, ParseError> {
    let path = Path::new(value);
    let (content, metadata) = read(path)?;
    let warning = describe_exposure(&metadata).map(|how| format!("{} {how}", path.display()));
    Ok(SecretFile { content, warning })
}

pub(super) fn digest_key_file(value: &str) -> Result<SecretFile, ParseError> {
    long_secret(value, 32)
}

pub(super) fn webhook_secret_file(value: &str) -> Result<SecretFile, ParseError> {
    long_secret(value, 16)
}

fn long_secret(value: &str, least: usize) -> Result<SecretFile, ParseError> {
    let file = secret_file(value)?;
    let length = file.content.expose_secret().chars().count();
    if length < least {
        return Err(because(format!(
            "names {}, which holds {length} characters, fewer than {least}",
            path_for_message(value)
        )));
    }
    Ok(file)
}

pub(super) fn ssh_key_file(value: &str) -> Result<SecretFile, ParseError> {
    private_key(value, |key| private_key::check(key).map_err(|error| error.message))
}

pub(super) fn app_key_file(value: &str) -> Result<SecretFile, ParseError> {
    private_key(value, |key| check_app_key(key).map_err(|error| format!("can't be used: {}", error.message)))
}

pub(super) fn age_identity_file(value: &str) -> Result<SecretFile, ParseError> {
    let is_identity = |key: &SecretString| key.expose_secret().lines().any(|line| line.starts_with("AGE-SECRET-KEY-1"));
    private_key(value, |key| is_identity(key).then_some(()).ok_or_else(|| "doesn't hold an age identity".to_owned()))
}

/// `check` says what is wrong with the key, to follow "which".
fn private_key(value: &str, check: impl Fn(&SecretString) -> Result<(), String>) -> Result<SecretFile, ParseError> {
    let content = private_content(Path::new(value))?;
    check(&content).map_err(|why| because(format!("names {}, which {why}", path_for_message(value))))?;
    Ok(SecretFile { content, warning: None })
}

fn private_content(path: &Path) -> Result<SecretString, ParseError> {
    let (content, metadata) = read(path)?;
    match describe_exposure(&metadata) {
        None => Ok(content),
        Some(how) => Err(because(format!("names {0}, which {how}; run `chmod 600 {0}`", path.display()))),
    }
}

pub(super) fn sealing_keys_dir(value: &str) -> Result<PathBuf, ParseError> {
    let unreadable =
        |error: std::io::Error| because(format!("names {}, which can't be read: {error}", path_for_message(value)));
    let mut keys = 0;
    for entry in std::fs::read_dir(value).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(id) = name.strip_suffix(".key") else { continue };
        let key = private_content(&path)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(key.expose_secret()).map(zeroize::Zeroizing::new);
        if !bytes.is_ok_and(|bytes| bytes.len() == 32 && bytes.iter().any(|b| *b != 0)) {
            return Err(because(format!("names {}, which doesn't hold base64 of 32 bytes", path.display())));
        }
        if id.is_empty() || id.len() > 64 {
            return Err(because(format!("holds {}, whose key id isn't 1 to 64 bytes long", path.display())));
        }
        keys += 1;
    }
    if keys == 0 {
        return Err(because(format!("names {}, which holds no <key_id>.key file", path_for_message(value))));
    }
    Ok(value.into())
}

pub(super) fn directory(value: &str) -> Result<PathBuf, ParseError> {
    match std::fs::read_dir(value) {
        Ok(_) => Ok(value.into()),
        Err(error) => Err(because(format!("names {}, which can't be read: {error}", path_for_message(value)))),
    }
}

pub(super) fn ca_file(value: &str) -> Result<CaFile, ParseError> {
    let refuse = |why: String| because(format!("names {}, which {why}", path_for_message(value)));
    let certificates =
        CertificateDer::pem_file_iter(value).map_err(|error| refuse(format!("can't be read: {error}")))?;
    match certificates.collect::<Result<Vec<_>, _>>() {
        Ok(all) if !all.is_empty() => Ok(CaFile(value.into())),
        Ok(_) => Err(refuse("holds no certificate".into())),
        Err(error) => Err(refuse(format!("holds a broken certificate: {error}"))),
    }
}

/// A secret that is read again while the process runs.
///
/// # Errors
/// What is wrong with the file, to follow its name; never its content.
pub(crate) fn read_secret_file(path: &Path) -> Result<SecretString, String> {
    match read(path) {
        Ok((content, _)) => Ok(content),
        Err(ParseError::Because(problem)) => Err(problem),
        Err(ParseError::Unexpected) => Err("can't be read".to_owned()),
    }
}

/// A file for each owner of repositories, in lower case. They are read again later; here, all are tried.
pub(super) fn registry_credentials_dir(value: &str) -> Result<PathBuf, ParseError> {
    let path = directory(value)?;
    let unreadable =
        |error: std::io::Error| because(format!("names {}, which can't be read: {error}", path_for_message(value)));
    for entry in std::fs::read_dir(&path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // Kubernetes keeps `..data` and the like beside what it mounts.
        if name.starts_with('.') {
            continue;
        }
        let of_owner = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !of_owner || name.len() > 39 {
            return Err(because(format!(
                "holds {}, whose name isn't an owner's in lower case",
                path_for_message(&file.to_string_lossy())
            )));
        }
        let content = private_content(&file)?;
        if parse_login(&content).is_none() {
            return Err(because(format!("holds {}, which {}", file.display(), LOGIN_RULE)));
        }
    }
    Ok(path)
}

fn read(path: &Path) -> Result<(SecretString, Metadata), ParseError> {
    let shown = path_for_message(&path.to_string_lossy());
    let unreadable = |error: std::io::Error| because(format!("names {shown}, which can't be read: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(because(format!("names {shown}, which isn't a file")));
    }
    let mut content = zeroize::Zeroizing::new(String::new());
    file.take(MAX_BYTES + 1).read_to_string(&mut content).map_err(unreadable)?;
    // The mark that some editors put before UTF-8 belongs to no secret.
    match content.trim_end().trim_start_matches('\u{feff}') {
        "" => Err(because(format!("names {shown}, which is empty"))),
        _ if content.len() as u64 > MAX_BYTES => Err(because(format!("names {shown}, which is larger than 64 KiB"))),
        secret => Ok((secret.into(), metadata)),
    }
}

/// PostgreSQL's rule for key files: nobody but the owner, except that a group may read what root owns, which is how
/// Kubernetes hands secrets to a process that isn't root.
fn describe_exposure(metadata: &Metadata) -> Option<String> {
    let mode = metadata.mode() & 0o777;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    let allowed = if metadata.uid() == 0 && !own { 0o740 } else { 0o700 };
    (mode & !allowed != 0).then(|| format!("other users of this machine may open (mode {mode:04o})"))
}

/// A path for a message. A value that doesn't look like a path isn't repeated: it may be a secret in the wrong
/// variable.
fn path_for_message(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if value.starts_with(['/', '.']) && value.len() <= 200 && value.chars().all(plain) {
        value.to_owned()
    } else {
        "a path (not repeated here, since it may be a secret)".to_owned()
    }
}

fn because(text: String) -> ParseError {
    ParseError::Because(text)
}
