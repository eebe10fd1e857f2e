//! Where a secret of the workers comes from. What is in a file is read anew at each use, so that a file that was replaced
//! counts at once, and one that can't be read is an error instead of what it held before.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::private_file::{self, KeyFileError};

/// A secret, or the file that holds it.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// The secret itself.
    Value(SecretString),
    /// A file; the line break at its end isn't part of the secret.
    File(PathBuf),
}

impl CredentialSource {
    /// A private key: its file has to be closed to others.
    ///
    /// # Errors
    /// As [`private_file::read`].
    pub fn read_key(&self) -> Result<SecretString, KeyFileError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => private_file::read(path).map(|text| text.trim_end().into()),
        }
    }

    /// A token or password.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file can't be read or isn't text of at most 64 KiB.
    pub fn read(&self) -> Result<SecretString, KeyFileError> {
        match self {
            Self::Value(secret) => Ok(secret.expose_secret().trim().into()),
            Self::File(path) => private_file::read_any(path).map(|(text, _)| text.trim().into()),
        }
    }
}

impl From<SecretString> for CredentialSource {
    fn from(secret: SecretString) -> Self {
        Self::Value(secret)
    }
}

impl From<&str> for CredentialSource {
    fn from(secret: &str) -> Self {
        Self::Value(secret.into())
    }
}

impl From<String> for CredentialSource {
    fn from(secret: String) -> Self {
        Self::Value(secret.into())
    }
}
