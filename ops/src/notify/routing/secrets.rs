//! The secrets that a routing file names by their files. Each is known to the redactor before it's used.

use std::path::Path;

use base64::Engine as _;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_deploy::secrets::private_file;
use slipway_deploy::secrets::redact::Redactor;

/// The shortest key of a webhook, in bytes, as Standard Webhooks has it.
const SHORTEST_KEY: usize = 24;

/// The content of a file that nobody else may read, without the white space around it.
///
/// # Errors
/// What is wrong with the file, without its content.
pub(super) fn read(path: &Path, redactor: &Redactor) -> Result<SecretString, String> {
    let text = private_file::read(path).map_err(|error| error.to_string())?;
    let secret = text.trim();
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        return Err(format!("{}: must hold one word, the secret", path.display()));
    }
    let secret = SecretString::from(secret.to_owned());
    redactor.learn(&secret);
    Ok(secret)
}

/// As [`read`], for a key that a webhook is signed with.
pub(super) fn read_key(path: &Path, redactor: &Redactor) -> Result<SecretString, String> {
    let secret = read(path, redactor)?;
    let length = match secret.expose_secret().strip_prefix("whsec_") {
        Some(encoded) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded);
            decoded.map_err(|_| format!("{}: after whsec_ must be base64", path.display()))?.len()
        }
        None => secret.expose_secret().len(),
    };
    if length < SHORTEST_KEY {
        return Err(format!("{}: the key has {length} bytes, fewer than {SHORTEST_KEY}", path.display()));
    }
    Ok(secret)
}
