//! Whether a private SSH key can be used, before anybody logs in with it. Where keys come from is the matter of others.

use russh::keys::{Error, decode_secret_key};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::ErrorCode;

use crate::StageError;

/// Reads the key as a login does; whether a server accepts it shows there.
///
/// # Errors
/// `ssh-key-unusable`, which says why in words that may follow "it".
pub fn check(key: &SecretString) -> Result<(), StageError> {
    let pem = key.expose_secret();
    let why = match decode_secret_key(pem, None) {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error, Error::KeyIsEncrypted) || pem.contains("BEGIN ENCRYPTED PRIVATE KEY") => {
            "is protected by a passphrase, which no worker can give: take a key without one (`ssh-keygen -p` removes it)"
        }
        Err(_) => "isn't a private key in OpenSSH or PEM form, or not a whole one",
    };
    Err(StageError::new(ErrorCode::SshKeyUnusable, why))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_key_that_no_login_can_use_is_told_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let made = |name: &str, arguments: &[&str]| {
            let file = dir.path().join(name);
            assert!(Command::new("ssh-keygen").arg("-qf").arg(&file).args(arguments).status().unwrap().success());
            std::fs::read_to_string(file).unwrap()
        };
        let good = made("good", &["-t", "ed25519", "-N", ""]);
        let said = |key: &str| check(&SecretString::from(key)).map_err(|error| error.message);
        for key in
            [&good, &good.replace('\n', "\r\n"), &made("pem", &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""])]
        {
            assert_eq!(said(key), Ok(()));
        }
        for arguments in
            [&["-t", "ed25519"][..], &["-t", "rsa", "-b", "2048", "-m", "PEM"], &["-t", "ecdsa", "-m", "PKCS8"]]
        {
            let key = made(&arguments.concat(), &[arguments, &["-N", "a passphrase"]].concat());
            assert!(said(&key).unwrap_err().contains("passphrase"), "{arguments:?}");
        }
        for key in [&good[..good.len() / 2], &good.replace('\n', " "), &good.replace('\n', "\\n"), "hunter2", ""] {
            assert!(said(key).unwrap_err().contains("not a whole one"), "{key}");
        }
    }
}
