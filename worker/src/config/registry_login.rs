//! A credential for the registry as a file holds it. Where the files are is configured; whose is used is decided by those
//! who run attempts.

use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::RegistryUser;

/// What a file with a credential has to hold.
pub(crate) const LOGIN_RULE: &str = "must hold USERNAME:PASSWORD on one line";

/// `USERNAME:PASSWORD`.
pub(crate) fn parse_login(content: &SecretString) -> Option<(String, SecretString)> {
    let (username, password) = content.expose_secret().split_once(':')?;
    let username = RegistryUser::new(username).ok()?;
    is_password(password).then(|| (username.as_str().to_owned(), SecretString::from(password.to_owned())))
}

/// Whether a text can be a password at a registry.
pub(crate) fn is_password(text: &str) -> bool {
    !text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control)
}
