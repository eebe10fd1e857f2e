//! The sections of the configuration: what several variables mean together. A single variable is parsed in `parse`.

use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::bounds::Deadlines;
use slipway_deploy::secrets::mounted::has_unscoped;
use slipway_deploy::{ContainerDefaults, CredentialSource, DeployerConfig, GithubCredential, ProjectLimits};

use super::front_door::front_door;
use super::placement::placement;
use super::reader::VariableReader;
use super::variables as var;
use super::{
    DatabaseConfig, PushConfig, RegistryConfig, SecretsConfig, ServersConfig, TelemetryConfig, WebhookConfig,
    WorkerConfig,
};
use crate::scheduler::Limits;
use crate::store::{DatabaseRoute, Retention};

pub(super) fn worker(reader: &mut VariableReader) -> Option<WorkerConfig> {
    let name =
        if reader.is_set(&var::WORKER_NAME) { reader.take(&var::WORKER_NAME) } else { Some(default_worker_name()) };
    let (concurrency, drain) = (reader.take(&var::CONCURRENCY), reader.take(&var::DRAIN_TIMEOUT));
    let (lease, attempts) = (reader.take(&var::LEASE), attempts(reader));
    let (versions, half_timeout) = (reader.take(&var::VERSIONS), reader.take(&var::HALF_TIMEOUT));
    let (server, registry) = (reader.take(&var::SERVER_CONCURRENCY), reader.take(&var::REGISTRY_CONCURRENCY));
    let patience = reader.take(&var::SERVER_PATIENCE);
    let announce = reader.take(&var::GITHUB_DEPLOYMENTS);
    let (deadlines, placement) = (deadlines(reader), placement(reader));
    Some(WorkerConfig {
        name: name?,
        concurrency: concurrency?,
        drain_timeout: drain?,
        lease: lease?,
        attempts: attempts?,
        versions: versions?,
        half_timeout: half_timeout?,
        limits: Limits { per_server: server?, per_registry: registry?, patience: patience? },
        announce: announce?,
        deadlines: deadlines?,
        placement: placement?,
    })
}

pub(super) fn database(reader: &mut VariableReader) -> Option<DatabaseConfig> {
    let (url, pooler) = (reader.take(&var::DATABASE_URL), reader.take(&var::DATABASE_POOLER));
    let direct = reader.take(&var::DATABASE_DIRECT_URL).map(|url| url.secret().clone());
    let route = DatabaseRoute { pooler: pooler?, direct };
    if !route.has_sessions() && !reader.is_set(&var::DATABASE_DIRECT_URL) {
        reader.warnings.push(format!(
            "{} is transaction, and {} isn't set: no notifications come, so the database is asked every second, and its schema \
             has to be up to date already",
            var::DATABASE_POOLER.entry.name,
            var::DATABASE_DIRECT_URL.entry.name
        ));
    }
    Some(DatabaseConfig { url: url?, route })
}

fn deadlines(reader: &mut VariableReader) -> Option<Deadlines> {
    let (stage, deployment) = (reader.take(&var::STAGE_TIMEOUT), reader.take(&var::DEPLOYMENT_TIMEOUT));
    let request = reader.take(&var::REQUEST_MAX_AGE);
    Some(Deadlines { stage: stage?, deployment: deployment?, request: request?, ..Deadlines::DEFAULT })
}

/// The host's name is read where the kernel shows it: `HOSTNAME` is a shell's variable, often not exported.
fn default_worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}-{}", std::process::id())
}

fn attempts(reader: &mut VariableReader) -> Option<RetryPolicy> {
    let attempts = reader.take(&var::MAX_ATTEMPTS);
    let (initial, max) = (reader.take(&var::RETRY_INITIAL), reader.take(&var::RETRY_MAX));
    let (initial, max) = (initial?, max?);
    if max < initial {
        let problem =
            format!("is {max:?}, shorter than SLIPWAY_RETRY_INITIAL ({initial:?}); raise it or lower the other");
        reader.mistake(&var::RETRY_MAX.entry, problem);
    }
    Some(RetryPolicy { initial, max, attempts: attempts?, ..RetryPolicy::ATTEMPTS })
}

pub(super) fn servers(reader: &mut VariableReader) -> Option<ServersConfig> {
    if !reader.is_set(&var::SSH_KEY_FILE) && !reader.is_set(&var::AGE_IDENTITY_FILE) {
        let problem =
            "is missing, and so is SLIPWAY_AGE_IDENTITY_FILE; without one of them no server can be logged in to";
        reader.mistake(&var::SSH_KEY_FILE.entry, problem.into());
    }
    // Only tried here.
    let _ = (reader.secret(&var::SSH_KEY_FILE), reader.secret(&var::AGE_IDENTITY_FILE));
    let (ssh_key_file, age_identity_file) = (reader.path(&var::SSH_KEY_FILE), reader.path(&var::AGE_IDENTITY_FILE));
    let (trust_new, from_events) = (reader.take(&var::TRUST_NEW_SERVERS), reader.take(&var::SERVERS_FROM_EVENTS));
    if from_events == Some(true) {
        let warning = "is true: whoever may send events can have any server logged in to";
        reader.warnings.push(format!("{} {warning}", var::SERVERS_FROM_EVENTS.entry.name));
    }
    Some(ServersConfig { ssh_key_file, age_identity_file, trust_new: trust_new?, from_events: from_events? })
}

pub(super) fn secrets(reader: &mut VariableReader) -> Option<SecretsConfig> {
    let sealing_keys_dir = reader.take(&var::SEALING_KEYS_DIR);
    let mounted_dir = reader.take(&var::SECRETS_DIR);
    let (boxes, references) = (reader.take(&var::UNBOUND_BOXES), reader.take(&var::UNSCOPED_REFERENCES));
    if mounted_dir.as_deref().is_some_and(has_unscoped) {
        let read = if references == Some(true) { "any project can refer to them" } else { "no project can" };
        reader.warnings.push(format!(
            "{} holds files in the folder of no project and no owner: {read}; move them to projects/<id>/ or owners/<owner>/",
            var::SECRETS_DIR.entry.name
        ));
    }
    Some(SecretsConfig { sealing_keys_dir, mounted_dir, unbound_boxes: boxes?, unscoped_references: references? })
}

pub(super) fn deployer(reader: &mut VariableReader) -> Option<DeployerConfig> {
    let github = github(reader);
    let image_registry = reader.take(&var::REGISTRY);
    let registry_token_host = reader.take(&var::REGISTRY_TOKEN_HOST);
    let (github_api, github_git) = (reader.take(&var::GITHUB_API_URL), reader.take(&var::GITHUB_GIT_URL));
    let digest_key = reader.secret(&var::DIGEST_KEY_FILE);
    let ca_file = reader.take(&var::CA_FILE).map(|file| file.0);
    let project_root = reader.take(&var::PROJECT_ROOT);
    let (limits, front_door) = (limits(reader), front_door(reader));
    let (command, health) = (reader.take(&var::COMMAND_TIMEOUT), reader.take(&var::HEALTH_TIMEOUT));
    Some(DeployerConfig {
        github_api: github_api?,
        github_git: github_git?,
        github: github?,
        image_registry: image_registry?,
        registry_token_host,
        digest_key: digest_key?,
        ca_file,
        project_root: project_root?,
        command_timeout: command?,
        health_timeout: health?,
        limits: limits?,
        front_door: Some(front_door?),
    })
}

fn limits(reader: &mut VariableReader) -> Option<ProjectLimits> {
    let (mib, files) = (reader.take(&var::REPOSITORY_MIB), reader.take(&var::REPOSITORY_FILES));
    let (log_rotation, processes) = (reader.take(&var::LOG_ROTATION), reader.take(&var::PROCESSES));
    let no_new_privileges = reader.take(&var::NO_NEW_PRIVILEGES)?;
    Some(ProjectLimits {
        repository_bytes: mib? * 1024 * 1024,
        repository_files: files?,
        containers: ContainerDefaults { log_rotation: log_rotation?, processes: processes?, no_new_privileges },
    })
}

fn github(reader: &mut VariableReader) -> Option<GithubCredential> {
    let set = (
        reader.is_set(&var::GITHUB_APP_ID),
        reader.is_set(&var::GITHUB_APP_KEY_FILE),
        reader.is_set(&var::GITHUB_TOKEN_FILE),
    );
    // Only tried here: what the files hold is read anew at each use.
    let id = reader.take(&var::GITHUB_APP_ID);
    let _ = (reader.secret(&var::GITHUB_APP_KEY_FILE), reader.secret(&var::GITHUB_TOKEN_FILE));
    let (private_key, token) = (reader.path(&var::GITHUB_APP_KEY_FILE), reader.path(&var::GITHUB_TOKEN_FILE));
    let file = CredentialSource::File;
    let (entry, problem) = match set {
        (true, true, false) => return Some(GithubCredential::App { id: id?, private_key: file(private_key?) }),
        (false, false, true) => return token.map(|token| GithubCredential::Token(file(token))),
        (false, false, false) => (
            var::GITHUB_APP_ID.entry,
            "is missing; set it with SLIPWAY_GITHUB_APP_KEY_FILE, or set SLIPWAY_GITHUB_TOKEN_FILE instead",
        ),
        (true, false, false) => (var::GITHUB_APP_KEY_FILE.entry, "is missing, though SLIPWAY_GITHUB_APP_ID is set"),
        (false, true, false) => (var::GITHUB_APP_ID.entry, "is missing, though SLIPWAY_GITHUB_APP_KEY_FILE is set"),
        (_, _, true) => (var::GITHUB_TOKEN_FILE.entry, "is set beside a GitHub App; unset one of the two"),
    };
    reader.mistake(&entry, problem.into());
    None
}

/// The files are only tried here: what they hold is read anew for each attempt.
pub(super) fn registry(reader: &mut VariableReader) -> RegistryConfig {
    let set = (reader.is_set(&var::REGISTRY_USERNAME), reader.is_set(&var::REGISTRY_PASSWORD_FILE));
    let (username, _) = (reader.take(&var::REGISTRY_USERNAME), reader.secret(&var::REGISTRY_PASSWORD_FILE));
    let mistake = match set {
        (true, false) => {
            Some((var::REGISTRY_PASSWORD_FILE.entry, "is missing, though SLIPWAY_REGISTRY_USERNAME is set"))
        }
        (false, true) => {
            Some((var::REGISTRY_USERNAME.entry, "is missing, though SLIPWAY_REGISTRY_PASSWORD_FILE is set"))
        }
        _ => None,
    };
    if let Some((entry, problem)) = mistake {
        reader.mistake(&entry, problem.into());
    }
    let fleet = username.zip(reader.path(&var::REGISTRY_PASSWORD_FILE));
    RegistryConfig { fleet, owners_dir: reader.take(&var::REGISTRY_CREDENTIALS_DIR) }
}

pub(super) fn pushes(reader: &mut VariableReader) -> Option<PushConfig> {
    let interval = reader.take(&var::PUSH_INTERVAL);
    let takes_webhooks = reader.is_set(&var::WEBHOOK_ADDR);
    if takes_webhooks && !reader.is_set(&var::WEBHOOK_SECRET_FILE) {
        let problem = "is missing, though SLIPWAY_WEBHOOK_ADDR is set; without it anybody could send webhooks";
        reader.mistake(&var::WEBHOOK_SECRET_FILE.entry, problem.into());
    }
    let (address, secret) = (reader.take(&var::WEBHOOK_ADDR), reader.secret(&var::WEBHOOK_SECRET_FILE));
    let webhooks = address.zip(secret).map(|(address, secret)| WebhookConfig { address, secret });
    (webhooks.is_some() || !takes_webhooks).then_some(PushConfig { interval: interval?, webhooks })
}

pub(super) fn retention(reader: &mut VariableReader, worker: Option<&WorkerConfig>) -> Option<Retention> {
    let mut days = |variable| reader.take(variable).map(|days| (days, Retention::days(days)));
    let (secrets, journal, deployments) =
        (days(&var::KEEP_SECRETS), days(&var::KEEP_JOURNAL), days(&var::KEEP_DEPLOYMENTS));
    let (events, audit, ids) = (days(&var::KEEP_EVENTS), days(&var::KEEP_AUDIT), days(&var::KEEP_IDS));
    let (letters, messages) = (days(&var::KEEP_DEAD_LETTERS), days(&var::KEEP_DEAD_LETTER_MESSAGES));
    let (letters, messages) = (letters?, messages?);
    if messages > letters {
        let problem = format!(
            "is {}, more than SLIPWAY_KEEP_DEAD_LETTERS ({}); lower it or raise the other: what Postgres doesn't have any more \
             can't be recognised in the queue",
            messages.0, letters.0
        );
        reader.mistake(&var::KEEP_DEAD_LETTER_MESSAGES.entry, problem);
    }
    Some(Retention {
        secrets: secrets?.1,
        journal: journal?.1,
        deployments: deployments?.1,
        events: events?.1,
        dead_letters: letters.1,
        dead_letter_messages: messages.1,
        audit: audit?.1,
        ids: ids?.1,
        versions: worker?.versions,
    })
}

pub(super) fn telemetry(reader: &mut VariableReader, worker: Option<&WorkerConfig>) -> Option<TelemetryConfig> {
    let (filter, format) = (reader.take(&var::LOG), reader.take(&var::LOG_FORMAT));
    let export = reader.take(&var::OTLP_ENDPOINT).is_some();
    let instance = worker.map(|worker| worker.name.clone()).unwrap_or_default();
    Some(TelemetryConfig { filter: filter?, format: format?, export, instance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_session_of_its_own_a_worker_says_what_it_lacks() {
        let warned = |set: &[(&str, &str)]| {
            let url = ("SLIPWAY_DATABASE_URL", "postgresql://w:hunter2@pooler/slipway");
            let variables =
                set.iter().chain([&url]).map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
            let mut reader = VariableReader::new(variables);
            assert!(database(&mut reader).is_some());
            reader.warnings.join("\n")
        };
        let transaction = ("SLIPWAY_DATABASE_POOLER", "transaction");
        assert!(warned(&[transaction]).contains("asked every second"));
        assert_eq!(warned(&[("SLIPWAY_DATABASE_POOLER", "session")]), "");
        assert_eq!(warned(&[transaction, ("SLIPWAY_DATABASE_DIRECT_URL", "postgresql://w@db/slipway")]), "");
    }
}
