//! How this process logs in to GitHub: as the App or with a token, as the file that holds the key or token has it now.
//! What was minted with an earlier one isn't used any more.

use std::sync::{Arc, Mutex, PoisonError};

use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::ErrorCode;

use super::answer::CredentialKind;
use super::app::GithubApp;
use crate::{GithubCredential, KeyFileError, StageError};

/// A credential that can be used.
pub(super) enum Login {
    App(Box<GithubApp>),
    Token(SecretString),
}

/// The credential, and what was read last.
pub(super) struct Logins {
    credential: GithubCredential,
    held: Mutex<Option<(SecretString, Arc<Login>)>>,
}

/// The login of now, and whether it's another one than the last time.
pub(super) struct CurrentLogin {
    pub login: Arc<Login>,
    pub replaced: bool,
}

impl Logins {
    pub(super) fn new(credential: GithubCredential) -> Self {
        Self { credential, held: Mutex::default() }
    }

    /// Who asks about repositories.
    pub(super) fn asker(&self) -> CredentialKind {
        match self.credential {
            GithubCredential::App { .. } => CredentialKind::Installation,
            GithubCredential::Token(_) => CredentialKind::Token,
        }
    }

    /// Reads the credential.
    ///
    /// # Errors
    /// `github-credential-unusable`; then nothing is held any more.
    pub(super) fn current(&self) -> Result<CurrentLogin, StageError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let content = self.read().inspect_err(|_| *held = None)?;
        if let Some((known, login)) = held.as_ref()
            && known.expose_secret() == content.expose_secret()
        {
            return Ok(CurrentLogin { login: Arc::clone(login), replaced: false });
        }
        *held = None;
        let login = Arc::new(self.parse(&content)?);
        *held = Some((content, Arc::clone(&login)));
        Ok(CurrentLogin { login, replaced: true })
    }

    fn read(&self) -> Result<SecretString, StageError> {
        let (read, what) = match &self.credential {
            GithubCredential::App { private_key, .. } => (private_key.read_key(), "the GitHub App's private key"),
            GithubCredential::Token(token) => (token.read(), "the GitHub token"),
        };
        read.map_err(|error: KeyFileError| unusable(&format!("{what}: {error}")))
    }

    fn parse(&self, content: &SecretString) -> Result<Login, StageError> {
        match &self.credential {
            GithubCredential::App { id, .. } => Ok(Login::App(Box::new(GithubApp::new(id, content)?))),
            GithubCredential::Token(_) if content.expose_secret().is_empty() => {
                Err(unusable("the GitHub token is empty"))
            }
            GithubCredential::Token(_) => Ok(Login::Token(content.clone())),
        }
    }
}

fn unusable(message: &str) -> StageError {
    StageError::new(ErrorCode::GithubCredentialUnusable, message)
}
