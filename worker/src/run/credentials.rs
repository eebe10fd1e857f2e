//! What a deployment needs from this process beside the request: opened secrets, and the server with its SSH key. How a
//! secret is opened is the matter of `slipway-deploy`; which key and which server are used is decided here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;
use slipway_deploy::secrets::keys;
use slipway_deploy::secrets::open::{OpenedSecrets, SecretAccess, open_all};
use slipway_deploy::secrets::seal::KeyRing;
use slipway_deploy::{
    CredentialSource, DeploymentWork, EarlierRequests, HostKeyPolicy, LeaseGuard, RegistryCredential, StageError,
    Target,
};
use slipway_protocol::names::{HostKey, Port, UserName, VariableName};
use slipway_protocol::{Action, DeploymentId, ErrorCode, ProjectReady, SecretSource, Server};

use super::brought::BroughtSecrets;
use super::registry_credentials::{self, RegistryCredentials};
use crate::store::ServerRecord;

/// The keys of this process. What is in a file is read anew for each attempt.
#[derive(Default)]
pub struct Credentials {
    /// Opens sealed secrets, each with the key that its file holds then.
    pub sealing: KeyRing,
    /// Where mounted secrets are.
    pub mounted_dir: Option<PathBuf>,
    /// SSH key for servers that have none of their own in the inventory.
    pub ssh_key: Option<CredentialSource>,
    /// File of the age identity that opens the inventory's SSH keys.
    pub age_identity_file: Option<PathBuf>,
    /// Whether a server that the inventory doesn't know may be trusted at first sight.
    pub trust_new_servers: bool,
    /// For the registry that images are in.
    pub registry: RegistryCredentials,
    /// Whether a server that the inventory doesn't know may be described by an event.
    pub servers_from_events: bool,
    /// Whether boxes open that were sealed for no project.
    pub unbound_boxes: bool,
    /// Whether mounted secrets are read that lie in nobody's folder.
    pub unscoped_references: bool,
}

impl Credentials {
    /// The secrets of a request, opened.
    ///
    /// # Errors
    /// `unknown-sealing-key`, `sealed-secret-unreadable`, `secret-not-for-project` or `unknown-secret-reference`.
    pub fn open_secrets(&self, request: &ProjectReady) -> Result<OpenedSecrets, StageError> {
        open_all(&request.secrets, request.project.id, &request.repository.name, self.secret_access())
    }

    /// All that a request brings, opened: its secrets, and the password for its images under the name that it's sealed for.
    /// The workers' own credentials for images aren't looked at: an operator may repair them while the request waits.
    ///
    /// # Errors
    /// As [`Credentials::open_secrets`] and [`RegistryCredentials::choose`].
    pub fn open_brought<'b>(&self, brought: impl Into<BroughtSecrets<'b>>) -> Result<OpenedSecrets, StageError> {
        let brought = brought.into();
        let mut opened = open_all(brought.secrets, brought.project, brought.repository, self.secret_access())?;
        if let Some(access) = brought.registry {
            let password = registry_credentials::open_password(access, brought, self.secret_access())?;
            opened.unbound.extend(password.unbound);
            opened.values.extend(password.values);
        }
        Ok(opened)
    }

    /// What of that opens, whatever is wrong with the rest.
    #[must_use]
    pub fn openable<'b>(&self, brought: impl Into<BroughtSecrets<'b>>) -> BTreeMap<VariableName, SecretString> {
        let brought = brought.into();
        let access = self.secret_access();
        let one = |(name, source): (&VariableName, &SecretSource)| {
            let source = [(name.clone(), source.clone())].into();
            open_all(&source, brought.project, brought.repository, access).ok()
        };
        let password = |registry| registry_credentials::open_password(registry, brought, access).ok();
        let opened = brought.secrets.iter().filter_map(one).chain(brought.registry.and_then(password));
        opened.flat_map(|opened| opened.values).collect()
    }

    fn secret_access(&self) -> SecretAccess<'_> {
        SecretAccess {
            ring: &self.sealing,
            mounted_dir: self.mounted_dir.as_deref(),
            unbound_boxes: self.unbound_boxes,
            unscoped_references: self.unscoped_references,
        }
    }

    /// The credential for a request's images.
    ///
    /// # Errors
    /// As [`RegistryCredentials::choose`].
    pub fn choose_registry(&self, request: &ProjectReady) -> Result<Option<RegistryCredential>, StageError> {
        self.registry.choose(request, self.secret_access())
    }

    /// What the pipeline is given to deploy `request` on `server`, without its secrets and the credential for its images; `known` is what
    /// the inventory has of its server, and `digests` are those of the secrets at GitHub.
    ///
    /// # Errors
    /// As [`Credentials::resolve_target`].
    pub fn assemble_work(
        &self,
        deployment: DeploymentId,
        request: &ProjectReady,
        server: &Server,
        known: Option<ServerRecord>,
        digests: BTreeMap<String, String>,
        lease: LeaseGuard,
    ) -> Result<DeploymentWork, StageError> {
        Ok(DeploymentWork {
            deployment,
            action: Action::Deploy,
            remove_volumes: false,
            moving: None,
            shares_repository: false,
            former_owners: Vec::new(),
            ci_taken: None,
            request: request.clone(),
            target: self.resolve_target(server, known)?,
            secrets: BTreeMap::new(),
            registry: None,
            images: BTreeMap::new(),
            earlier: EarlierRequests::default(),
            github_digests: digests,
            allowances: Vec::new(),
            lease,
        })
    }

    /// The server of a request as something to connect to; what the inventory knows wins.
    ///
    /// # Errors
    /// `unknown-server`, `server-not-in-inventory` or `ssh-key-unusable`.
    pub fn resolve_target(&self, server: &Server, known: Option<ServerRecord>) -> Result<Target, StageError> {
        let (record, policy) = match known {
            Some(record) => {
                // Whoever sends an event doesn't say whom a server of the inventory is to be believed to be.
                let told = server.host_key.clone().filter(|_| self.servers_from_events);
                let policy = host_key_policy(record.host_key.clone().or(told), record.trust_on_first_use);
                (record, policy)
            }
            None => (self.server_from_event(server)?, host_key_policy(server.host_key.clone(), self.trust_new_servers)),
        };
        let ssh_key = self.ssh_key(&record)?;
        Ok(Target {
            handle: record.handle,
            address: record.address,
            ssh_port: record.ssh_port,
            ssh_user: record.ssh_user,
            host_key: policy,
            ssh_key,
            front_door: record.front_door,
        })
    }

    /// The server as the event describes it, when the inventory doesn't know it.
    ///
    /// # Errors
    /// `unknown-server` when it gives no address, `server-not-in-inventory` where events may describe no servers.
    pub(crate) fn server_from_event(&self, server: &Server) -> Result<ServerRecord, StageError> {
        if self.servers_from_events {
            return server_from_event(server);
        }
        // An address would be refused as well.
        let code = match server.address {
            Some(_) => ErrorCode::ServerNotInInventory,
            None => ErrorCode::UnknownServer,
        };
        let handle = &server.handle;
        let message = format!(
            "the inventory doesn't hold {handle}, and an event can't add it; an operator can, with `slipway servers add {handle}`"
        );
        Err(StageError::new(code, message))
    }

    fn ssh_key(&self, record: &ServerRecord) -> Result<SecretString, StageError> {
        let unusable = |reason: &str| {
            StageError::new(ErrorCode::SshKeyUnusable, format!("no SSH key for the server {}: {reason}", record.handle))
        };
        match (&record.ssh_key_enc, &self.age_identity_file, &self.ssh_key) {
            (Some(encrypted), Some(identity), _) => keys::decrypt_ssh_key(encrypted, identity),
            (Some(_), None, _) => {
                Err(unusable("the inventory's is encrypted, and SLIPWAY_AGE_IDENTITY_FILE isn't set"))
            }
            (None, _, Some(mounted)) => mounted.read_key().map_err(|error| unusable(&error.to_string())),
            (None, _, None) => Err(unusable("the inventory has none, and SLIPWAY_SSH_KEY_FILE isn't set")),
        }
    }
}

fn host_key_policy(pinned: Option<HostKey>, trust: bool) -> HostKeyPolicy {
    match pinned {
        Some(key) => HostKeyPolicy::Pinned(key),
        None if trust => HostKeyPolicy::TrustOnFirstUse,
        None => HostKeyPolicy::Refuse,
    }
}

fn server_from_event(server: &Server) -> Result<ServerRecord, StageError> {
    let Some(address) = server.address.clone() else {
        let message = format!(
            "the inventory doesn't hold {0}, and the event gives no address: give it, or have an operator add the server, \
             with `slipway servers add {0}`",
            server.handle
        );
        return Err(StageError::new(ErrorCode::UnknownServer, message));
    };
    let defaults = (Port::new(22), UserName::new("root"));
    let (Ok(port), Ok(user)) = defaults else {
        return Err(StageError::new(ErrorCode::InternalError, "the defaults of SSH port and user are invalid"));
    };
    Ok(ServerRecord {
        handle: server.handle.clone(),
        address,
        ssh_port: server.ssh_port.unwrap_or(port),
        ssh_user: server.ssh_user.clone().unwrap_or(user),
        host_key: server.host_key.clone(),
        trust_on_first_use: false,
        ssh_key_enc: None,
        notes: None,
        front_door: None,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn an_ssh_key_that_was_replaced_counts_at_once_and_one_that_broke_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ssh");
        let credentials = Credentials {
            ssh_key: Some(CredentialSource::File(file.clone())),
            servers_from_events: true,
            ..Credentials::default()
        };
        let server: Server =
            serde_json::from_value(serde_json::json!({ "handle": "one", "address": "192.0.2.1" })).unwrap();
        let key = || match credentials.resolve_target(&server, None) {
            Ok(target) => target.ssh_key.expose_secret().to_owned(),
            Err(error) => error.code.to_string(),
        };
        let put = |content: &str, mode| {
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        put("old\n", 0o600);
        assert_eq!(key(), "old");
        put("new\n", 0o600);
        assert_eq!(key(), "new");
        put("new\n", 0o644);
        assert_eq!(key(), "ssh-key-unusable", "others may read it");
        fs::remove_file(&file).unwrap();
        assert_eq!(key(), "ssh-key-unusable");
    }

    fn refusal(servers_from_events: bool, server: serde_json::Value) -> StageError {
        let credentials = Credentials { servers_from_events, ..Credentials::default() };
        credentials.server_from_event(&serde_json::from_value(server).unwrap()).unwrap_err()
    }

    #[test]
    fn an_address_is_asked_for_only_where_events_may_give_one() {
        let (bare, whole) = (
            serde_json::json!({ "handle": "vps-9" }),
            serde_json::json!({ "handle": "vps-9", "address": "203.0.113.9" }),
        );
        let closed = refusal(false, bare.clone());
        assert_eq!(closed.code, ErrorCode::UnknownServer);
        assert!(!closed.message.contains("address"), "{}", closed.message);
        assert_eq!(refusal(false, whole).code, ErrorCode::ServerNotInInventory);
        let open = refusal(true, bare);
        assert_eq!(open.code, ErrorCode::UnknownServer);
        assert!(open.message.contains("gives no address: give it"), "{}", open.message);
        for told in [closed, open] {
            assert!(told.message.contains("`slipway servers add vps-9`"), "{}", told.message);
        }
    }
}
