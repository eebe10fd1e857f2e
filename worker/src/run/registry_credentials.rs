//! Whose credential a project's images are read with: the one that its request brings, else the one for the repository's
//! owner, else the one for all. Files are read anew each time, so that a changed password counts from the next attempt on.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use secrecy::ExposeSecret as _;
use slipway_deploy::secrets::open::{OpenedSecrets, SecretAccess, open_all};
use slipway_deploy::{RegistryCredential, RegistryCredentialSource, StageError};
use slipway_protocol::names::VariableName;
use slipway_protocol::{ErrorCode, ProjectReady, RegistryAccess};

use super::brought::BroughtSecrets;
use crate::config::{LOGIN_RULE, RegistryConfig, is_password, parse_login, read_secret_file};

/// The credentials for the registry that this process has.
#[derive(Debug, Clone, Default)]
pub struct RegistryCredentials {
    /// The user and the file of the password for all projects.
    pub fleet: Option<(String, PathBuf)>,
    /// A file for each owner of repositories, named after it in lower case: `USERNAME:PASSWORD`.
    pub owners_dir: Option<PathBuf>,
}

impl RegistryCredentials {
    /// Those that are configured.
    #[must_use]
    pub fn new(config: &RegistryConfig) -> Self {
        Self { fleet: config.fleet.clone(), owners_dir: config.owners_dir.clone() }
    }

    /// The credential for a request's images; none where there is none for it. One that is there and can't be read is
    /// never replaced by another.
    ///
    /// # Errors
    /// `registry-credential-unusable`, and for the request's own those of [`open_all`].
    pub fn choose(
        &self,
        request: &ProjectReady,
        with: SecretAccess<'_>,
    ) -> Result<Option<RegistryCredential>, StageError> {
        if let Some(access) = &request.registry {
            let password = open_password(access, request.into(), with)?.values.into_values().next().unwrap_or_default();
            let source = RegistryCredentialSource::Request { for_ci: access.for_ci };
            return Ok(Some(RegistryCredential { username: access.username.as_str().to_owned(), password, source }));
        }
        let owner = request.repository.name.as_str().split('/').next().unwrap_or_default().to_ascii_lowercase();
        if let Some(credential) = self.of_owner(&owner)? {
            return Ok(Some(credential));
        }
        let Some((username, file)) = &self.fleet else { return Ok(None) };
        let password = read_secret_file(file).map_err(|why| {
            unusable(&format!("the password in {} (SLIPWAY_REGISTRY_PASSWORD_FILE): {why}", file.display()))
        })?;
        Ok(Some(RegistryCredential { username: username.clone(), password, source: RegistryCredentialSource::Fleet }))
    }

    fn of_owner(&self, owner: &str) -> Result<Option<RegistryCredential>, StageError> {
        let Some(directory) = &self.owners_dir else { return Ok(None) };
        let file = directory.join(owner);
        match std::fs::symlink_metadata(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            _ => {}
        }
        let refuse = |why: &str| unusable(&format!("{} (SLIPWAY_REGISTRY_CREDENTIALS_DIR): {why}", file.display()));
        let content = read_secret_file(&file).map_err(|why| refuse(&why))?;
        let (username, password) = parse_login(&content).ok_or_else(|| refuse(LOGIN_RULE))?;
        Ok(Some(RegistryCredential { username, password, source: RegistryCredentialSource::Owner }))
    }
}

fn unusable(message: &str) -> StageError {
    StageError::new(ErrorCode::RegistryCredentialUnusable, message)
}

/// The password that a request brings.
///
/// # Errors
/// Those of [`open_all`], and `registry-credential-unusable`.
pub(super) fn open_password(
    access: &RegistryAccess,
    brought: BroughtSecrets<'_>,
    with: SecretAccess<'_>,
) -> Result<OpenedSecrets, StageError> {
    let internal = |_| StageError::new(ErrorCode::InternalError, "the name of the registry's password is invalid");
    let name = VariableName::new(RegistryAccess::PASSWORD).map_err(internal)?;
    let source = BTreeMap::from([(name, access.password.clone())]);
    let opened = open_all(&source, brought.project, brought.repository, with)?;
    if !opened.values.values().all(|password| is_password(password.expose_secret())) {
        return Err(unusable("the password that the request brings is empty, or isn't one line"));
    }
    Ok(opened)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use slipway_deploy::secrets::seal::KeyRing;

    use super::*;

    fn request(registry: &serde_json::Value) -> ProjectReady {
        serde_json::from_value(serde_json::json!({
            "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "shop" },
            "repository": { "name": "Acme/shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main" },
            "server": { "handle": "one" },
            "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
            "modules": ["backend"],
            "registry": registry,
        }))
        .unwrap()
    }

    fn write(path: &Path, content: &str) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// User, password and source of what is chosen, or the code.
    fn chosen(credentials: &RegistryCredentials, registry: &serde_json::Value, mounted: &Path) -> String {
        let ring = KeyRing::default();
        let with =
            SecretAccess { ring: &ring, mounted_dir: Some(mounted), unbound_boxes: false, unscoped_references: true };
        match credentials.choose(&request(registry), with) {
            Ok(Some(c)) => format!("{}:{} {}", c.username, c.password.expose_secret(), c.source.as_str()),
            Ok(None) => "none".to_owned(),
            Err(error) => error.code.as_str().to_owned(),
        }
    }

    #[test]
    fn the_requests_credential_comes_before_the_owners_and_that_before_the_fleets() {
        let (owners, mounted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let password = mounted.path().join("fleet");
        write(&password, "f1\n");
        write(&mounted.path().join("shop.registry"), "r1\n");
        let own = serde_json::json!({ "username": "shop", "password": { "reference": "shop.registry" } });
        let none = serde_json::Value::Null;
        let credentials = RegistryCredentials {
            fleet: Some(("fleet".to_owned(), password.clone())),
            owners_dir: Some(owners.path().to_owned()),
        };
        let choose = |registry| chosen(&credentials, registry, mounted.path());
        assert_eq!(choose(&none), "fleet:f1 fleet");
        write(&password, "f2\n");
        assert_eq!(choose(&none), "fleet:f2 fleet", "it's read anew");

        let of_owner = owners.path().join("acme");
        write(&of_owner, "acme$robot:o:1\n");
        assert_eq!(choose(&none), "acme$robot:o:1 owner", "an owner's name has no case");
        write(&of_owner, "acme$robot:o2\n");
        assert_eq!(choose(&none), "acme$robot:o2 owner", "it's read anew");
        assert_eq!(choose(&own), "shop:r1 request");

        for broken in ["", "no-password", "acme:", ":o", "acme:two\nlines", "ac me:o"] {
            write(&of_owner, broken);
            assert_eq!(choose(&none), "registry-credential-unusable", "{broken:?}: the fleet's isn't taken instead");
            assert_eq!(choose(&own), "shop:r1 request", "{broken:?}: the owner's isn't needed");
        }
        fs::remove_file(&of_owner).unwrap();
        fs::remove_file(&password).unwrap();
        assert_eq!(choose(&none), "registry-credential-unusable");
        fs::remove_file(mounted.path().join("shop.registry")).unwrap();
        assert_eq!(choose(&own), "unknown-secret-reference");
        assert_eq!(chosen(&RegistryCredentials::default(), &none, mounted.path()), "none");
    }
}
