//! What stands inside a sealed box: the value, and whose it is. Anybody can copy a box out of a message, so that a box
//! which doesn't say for what it was made could be sent again under another project, and read there.

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use slipway_protocol::{ErrorCode, ProjectId, SealedSecret};

use super::seal::{self, KeyRing, UnusablePublicKey};
use crate::StageError;

/// What a box begins with that says whose it is. The Python file has it, too.
const PREFIX: &str = "slipway.sealed.v1:";

/// What a secret belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretOwner<'a> {
    /// The project, by its id: a slug belongs to nobody.
    pub project: ProjectId,
    /// The variable, or whatever the field is called that the box stands in.
    pub name: &'a str,
}

/// The value of a box.
#[derive(Debug)]
pub struct OpenedBox {
    /// What was sealed.
    pub value: SecretString,
    /// Whether the box says whose it is, and says so rightly; `false` for one of the old form, which says nothing.
    pub bound: bool,
}

#[derive(Serialize, Deserialize)]
struct Content<V> {
    project: ProjectId,
    name: String,
    value: V,
}

/// Seals `value` to a public key, for `owner` alone; the box in base64.
///
/// # Errors
/// As [`seal::seal`].
pub fn seal_for(public_key: &[u8], owner: SecretOwner<'_>, value: &SecretString) -> Result<String, UnusablePublicKey> {
    let content = Content { project: owner.project, name: owner.name.to_owned(), value: value.expose_secret() };
    let content = serde_json::to_string(&content).map_err(|_| UnusablePublicKey)?;
    seal::seal(public_key, &format!("{PREFIX}{content}").into())
}

impl KeyRing {
    /// Opens a box that must have been made for `owner`. One of the old form opens, too, if `unbound` ones may.
    ///
    /// # Errors
    /// As [`KeyRing::open`], and `secret-not-for-project`.
    pub fn open_for(
        &self,
        sealed: &SealedSecret,
        owner: SecretOwner<'_>,
        unbound: bool,
    ) -> Result<OpenedBox, StageError> {
        let value = self.open(sealed)?;
        let refuse = |why: &str| StageError::new(ErrorCode::SecretNotForProject, format!("the box {why}"));
        let Some(content) = value.expose_secret().strip_prefix(PREFIX) else {
            if unbound {
                return Ok(OpenedBox { value, bound: false });
            }
            return Err(refuse("doesn't say for which project and variable it was sealed"));
        };
        // The error would tell a part of the content.
        let Ok(content) = serde_json::from_str::<Content<String>>(content) else {
            let message = "the box says for whom it was sealed, but not in the form of version 1";
            return Err(StageError::new(ErrorCode::SealedSecretUnreadable, message));
        };
        let value = SecretString::from(content.value);
        if content.project != owner.project {
            return Err(refuse("was sealed for another project"));
        }
        if content.name != owner.name {
            return Err(refuse("was sealed for another variable of this project"));
        }
        Ok(OpenedBox { value, bound: true })
    }
}
