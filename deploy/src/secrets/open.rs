//! Opening the secrets of a request: whichever form they came in, each only for the project that asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use secrecy::SecretString;
use slipway_protocol::names::{RepositoryName, VariableName};
use slipway_protocol::{ProjectId, SecretSource};

use super::bound::SecretOwner;
use super::mounted::{self, Reader};
use super::seal::KeyRing;
use crate::StageError;

/// With what secrets are opened, and which of the old forms are still read.
#[derive(Debug, Clone, Copy)]
pub struct SecretAccess<'a> {
    /// Opens sealed boxes.
    pub ring: &'a KeyRing,
    /// Where mounted secrets are.
    pub mounted_dir: Option<&'a Path>,
    /// Whether boxes open that don't say for which project they were sealed.
    pub unbound_boxes: bool,
    /// Whether mounted files are read that lie in the folder of no project and no owner.
    pub unscoped_references: bool,
}

/// Opened secrets.
#[derive(Debug, Default)]
pub struct OpenedSecrets {
    /// The values.
    pub values: BTreeMap<VariableName, SecretString>,
    /// Those of an old form, which any project could have used.
    pub unbound: BTreeSet<VariableName>,
}

/// Opens every secret that a project's request carries.
///
/// # Errors
/// Those of [`KeyRing::open_for`], and `unknown-secret-reference`; the message names the variable.
pub fn open_all(
    sources: &BTreeMap<VariableName, SecretSource>,
    project: ProjectId,
    repository: &RepositoryName,
    access: SecretAccess<'_>,
) -> Result<OpenedSecrets, StageError> {
    let mut opened = OpenedSecrets::default();
    let reader = Reader { project, repository, unscoped: access.unscoped_references };
    for (variable, source) in sources {
        let secret = match source {
            SecretSource::Sealed(sealed) => {
                let owner = SecretOwner { project, name: variable.as_str() };
                access.ring.open_for(sealed, owner, access.unbound_boxes).map(|opened| (opened.value, !opened.bound))
            }
            SecretSource::Reference(reference) => mounted::read(access.mounted_dir, reference, reader),
        };
        let (value, unbound) =
            secret.map_err(|e| StageError { message: format!("secret {variable}: {}", e.message), ..e })?;
        if unbound {
            opened.unbound.insert(variable.clone());
        }
        opened.values.insert(variable.clone(), value);
    }
    Ok(opened)
}
