//! The configuration as an operator meets it: all mistakes at once, no secret ever repeated, help from the same table.

mod keys;
mod sections;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use base64::Engine as _;
use secrecy::ExposeSecret as _;
use slipway_deploy::secrets::keys::DeployKey;
use slipway_deploy::{ContainerDefaults, CredentialSource, GithubCredential, ProjectLimits};
use slipway_worker::config::{Config, GROUPS, LogFormat, Unset};

const PASSWORD: &str = "Tr0ub4dor-and-3";

/// A complete configuration in a folder of its own; tests spoil it one variable at a time.
struct Fixture {
    folder: tempfile::TempDir,
    variables: BTreeMap<String, String>,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self { folder: tempfile::tempdir().unwrap(), variables: BTreeMap::new() };
        let ssh_key = fixture.file("ssh", DeployKey::generate("test").unwrap().private.expose_secret());
        let token = fixture.file("token", "a-github-token\n");
        let digest = fixture.file("digest", "0123456789abcdef0123456789abcdef\n");
        fixture.set("SLIPWAY_AMQP_URL", &format!("amqp://worker:{PASSWORD}@broker:5672/%2f"));
        fixture.set("SLIPWAY_DATABASE_URL", &format!("postgresql://worker:{PASSWORD}@db:5432/slipway?sslmode=disable"));
        fixture.set("SLIPWAY_SSH_KEY_FILE", ssh_key.to_str().unwrap());
        fixture.set("SLIPWAY_GITHUB_TOKEN_FILE", token.to_str().unwrap());
        fixture.set("SLIPWAY_DIGEST_KEY_FILE", digest.to_str().unwrap());
        fixture
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        chmod(&path, 0o600);
        path
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.into(), value.into());
    }

    fn config(&self) -> Config {
        Config::from_map(self.variables.clone()).unwrap()
    }

    /// The mistakes, as `variable problem`.
    fn mistakes(&self) -> Vec<String> {
        let mistakes = Config::from_map(self.variables.clone()).unwrap_err();
        mistakes.0.iter().map(|mistake| format!("{} {}", mistake.variable, mistake.problem)).collect()
    }

    fn worker(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slipway-worker"));
        command.env_clear().envs(&self.variables);
        command
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_complete_environment_becomes_a_configuration_with_the_documented_defaults() {
    let config = Fixture::new().config();
    assert_eq!(config.worker.concurrency, 4);
    assert_eq!(config.worker.drain_timeout, Duration::from_secs(25));
    assert_eq!(config.worker.lease, Duration::from_secs(4));
    assert_eq!(config.worker.attempts, slipway_deploy::backoff::RetryPolicy::ATTEMPTS);
    assert_eq!(config.worker.deadlines, slipway_deploy::bounds::Deadlines::DEFAULT);
    assert!(config.worker.name.ends_with(&format!("-{}", std::process::id())));
    assert_eq!(config.admin.address, "127.0.0.1:9090".parse().unwrap());
    assert_eq!(config.deployer.github_api, "https://api.github.com");
    assert_eq!(config.deployer.image_registry, "ghcr.io");
    assert_eq!(config.deployer.project_root, "/opt/services");
    assert!(
        matches!(&config.deployer.github, GithubCredential::Token(CredentialSource::File(file)) if file.ends_with("token"))
    );
    assert_eq!(config.registry, slipway_worker::config::RegistryConfig::default());
    assert_eq!(config.telemetry.format, LogFormat::Json);
    assert!(!config.telemetry.export);
    assert!(config.pushes.webhooks.is_none() && config.pushes.interval == Duration::from_secs(300));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn retry_policies_timeouts_and_durations_can_be_overridden() {
    let mut fixture = Fixture::new();
    for (name, value) in [
        ("SLIPWAY_RETRY_INITIAL", "200ms"),
        ("SLIPWAY_RETRY_MAX", "1m 30s"),
        ("SLIPWAY_MAX_ATTEMPTS", "2"),
        ("SLIPWAY_COMMAND_TIMEOUT", "PT10M"),
    ] {
        fixture.set(name, value);
    }
    let config = fixture.config();
    assert_eq!(config.worker.attempts.initial, Duration::from_millis(200));
    assert_eq!(config.worker.attempts.max, Duration::from_secs(90));
    assert_eq!(config.worker.attempts.attempts, 2);
    assert_eq!(config.deployer.command_timeout, Duration::from_secs(600));
    assert_eq!(
        config.deployer.limits,
        ProjectLimits::DEFAULT,
        "what deploy calls the defaults are those of the settings"
    );
    for name in ["SLIPWAY_LOG_ROTATION", "SLIPWAY_NO_NEW_PRIVILEGES"] {
        fixture.set(name, "false");
    }
    for (name, value) in [("REPOSITORY_MIB", "2"), ("REPOSITORY_FILES", "3"), ("PROCESSES", "0")] {
        fixture.set(&format!("SLIPWAY_{name}"), value);
    }
    let containers = ContainerDefaults { log_rotation: false, processes: 0, no_new_privileges: false };
    let limits = ProjectLimits { repository_bytes: 2 << 20, repository_files: 3, containers };
    assert_eq!(fixture.config().deployer.limits, limits);
}

#[test]
fn each_spoilt_variable_is_named_with_what_it_should_be() {
    let cases = [
        ("SLIPWAY_AMQP_URL", "http://broker", "must be a URL such as amqps://"),
        ("SLIPWAY_DATABASE_URL", "db.example", "must be a URL such as postgresql://"),
        ("SLIPWAY_DATABASE_URL", "postgresql://db", "must be a URL such as postgresql://"),
        ("SLIPWAY_DATABASE_DIRECT_URL", "postgresql://db", "must be a URL such as SLIPWAY_DATABASE_URL"),
        ("SLIPWAY_DATABASE_POOLER", "statement", "must be none, session or transaction"),
        ("SLIPWAY_ADMIN_ADDR", "9090", "is \"9090\", but must be an IP address and a port"),
        ("SLIPWAY_CONCURRENCY", "0", "is \"0\", but must be a number from 1 to 1000"),
        ("SLIPWAY_WORKER_NAME", "two words", "must be 1 to 128 visible ASCII characters"),
        ("SLIPWAY_LEASE", "30", "is \"30\", but must be a duration from 1s to 10m"),
        ("SLIPWAY_DRAIN_TIMEOUT", "-1s", "must be a duration from 0s to 1h"),
        ("SLIPWAY_RETRY_MAX", "1s", "shorter than SLIPWAY_RETRY_INITIAL (10s)"),
        ("SLIPWAY_TRUST_NEW_SERVERS", "yes", "must be true or false"),
        ("SLIPWAY_PROJECT_ROOT", "/opt/../etc", "without '..'"),
        ("SLIPWAY_PROJECT_ROOT", "/opt/a b", "must be an absolute path"),
        ("SLIPWAY_GITHUB_API_URL", "api.github.com", "must be an http:// or https:// URL"),
        ("SLIPWAY_WEBHOOK_ADDR", "0.0.0.0:8080", "SLIPWAY_WEBHOOK_SECRET_FILE is missing, though SLIPWAY_WEBHOOK_ADDR"),
        ("SLIPWAY_PUSH_INTERVAL", "1s", "must be a duration from 10s to 24h"),
        ("SLIPWAY_GITHUB_APP_ID", "1", "SLIPWAY_GITHUB_TOKEN_FILE is set beside a GitHub App"),
        ("SLIPWAY_GITHUB_TOKEN_FILE", "", "set it with SLIPWAY_GITHUB_APP_KEY_FILE, or set SLIPWAY_GITHUB_TOKEN_FILE"),
        ("SLIPWAY_REGISTRY", "https://ghcr.io", "must be a host in lower case"),
        ("SLIPWAY_REGISTRY_USERNAME", "bot", "SLIPWAY_REGISTRY_PASSWORD_FILE is missing, though"),
        ("SLIPWAY_SSH_KEY_FILE", "", "is missing, and so is SLIPWAY_AGE_IDENTITY_FILE"),
        ("SLIPWAY_SSH_KEY_FILE", "/nowhere/key", "names /nowhere/key, which can't be read: No such file"),
        ("SLIPWAY_DIGEST_KEY_FILE", "", "is missing; set it to the path of a file with at least 32 characters"),
        ("SLIPWAY_SECRETS_DIR", "/nowhere", "can't be read"),
        ("SLIPWAY_CA_FILE", "/dev/null", "holds no certificate"),
        ("SLIPWAY_LOG", "info,[", "can't be read"),
        ("SLIPWAY_LOG_FORMAT", "xml", "is \"xml\", but must be json or text"),
        ("SLIPWAY_FRONT_DOOR", "true", "must be on or off"),
        ("SLIPWAY_FRONT_DOOR_IMAGE", "docker.io/library/caddy:2", "isn't pinned by its digest"),
        ("SLIPWAY_PROVING_TIME", "0s", "must be a duration from 1s to 10m"),
        ("SLIPWAY_ACME_DIRECTORY", "http://ca.example", "must be an https:// URL"),
        ("SLIPWAY_ACME_EMAIL", "ops", "must be an e-mail address"),
        ("SLIPWAY_ACME_CA_FILE", "/dev/null", "holds no certificate"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "must be an http:// or https:// URL"),
    ];
    for (name, value, expected) in cases {
        let mut fixture = Fixture::new();
        fixture.set(name, value);
        let mistakes = fixture.mistakes();
        assert_eq!(mistakes.len(), 1, "{name}={value}: {mistakes:?}");
        assert!(mistakes[0].contains(expected), "{name}={value}: {mistakes:?}");
    }
}

#[test]
fn all_mistakes_are_reported_at_once_with_exit_code_64() {
    let mut fixture = Fixture::new();
    fixture.variables.remove("SLIPWAY_DIGEST_KEY_FILE");
    fixture.set("SLIPWAY_AMQP_URL", "amqp//broker");
    fixture.set("SLIPWAY_CONCURRENCY", "many");
    fixture.set("SLIPWAY_LEASE", "30");
    fixture.set("SLIPWAY_LOG_FORMAT", "xml");
    let output = fixture.worker().output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(output.stdout.is_empty());
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap());
}

#[test]
fn no_password_is_repeated_whether_the_configuration_is_valid_or_not() {
    let mut fixture = Fixture::new();
    let debug = format!("{:?}", fixture.config());
    assert!(!debug.contains(PASSWORD) && debug.contains("worker:***@db:5432"), "{debug}");
    assert!(!debug.contains("a-github-token") && !debug.contains("OPENSSH"), "{debug}");
    // Unescaped characters move parts of the password to where parsers quote from.
    for name in ["SLIPWAY_AMQP_URL", "SLIPWAY_DATABASE_URL", "SLIPWAY_GITHUB_API_URL", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        for scheme in ["amqp", "postgresql", "http", "htp"] {
            for shape in ["u:/#@h", "u:@h:port/x", "u:?=@h/db", "u:[@h"] {
                let shape = shape.replacen(':', &format!(":{PASSWORD}"), 1);
                fixture.set(name, &format!("{scheme}://{shape}"));
                if let Err(mistakes) = Config::from_map(fixture.variables.clone()) {
                    assert!(!format!("{mistakes} {mistakes:?}").contains(PASSWORD), "{mistakes}");
                }
            }
        }
    }
}

#[test]
fn a_secret_in_place_of_its_files_path_is_not_repeated() {
    let secrets =
        ["ghp_0123456789abcdef", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "AGE-SECRET-KEY-1QQQ", "q83v+7/EjQ=="];
    for name in
        ["SLIPWAY_SSH_KEY_FILE", "SLIPWAY_AGE_IDENTITY_FILE", "SLIPWAY_GITHUB_TOKEN_FILE", "SLIPWAY_SEALING_KEYS_DIR"]
    {
        for secret in secrets {
            let mut fixture = Fixture::new();
            fixture.set(name, secret);
            let mistakes = fixture.mistakes().join("\n");
            assert!(!mistakes.contains(secret) && mistakes.contains(name), "{mistakes}");
        }
    }
}

#[test]
fn a_private_key_that_others_may_read_is_refused_with_the_cure() {
    let mut fixture = Fixture::new();
    let key = fixture.folder.path().join("ssh");
    chmod(&key, 0o640);
    let mistakes = fixture.mistakes();
    let expected = format!("other users of this machine may open (mode 0640); run `chmod 600 {}`", key.display());
    assert!(mistakes.len() == 1 && mistakes[0].contains(&expected), "{mistakes:?}");

    chmod(&key, 0o600);
    chmod(&fixture.folder.path().join("token"), 0o644);
    let warnings = fixture.config().warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("SLIPWAY_GITHUB_TOKEN_FILE: "), "{warnings:?}");

    let keys = fixture.folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    let sealing = keys.join("2026-11.key");
    std::fs::write(&sealing, base64::engine::general_purpose::STANDARD.encode([7; 32])).unwrap();
    chmod(&sealing, 0o644);
    fixture.set("SLIPWAY_SEALING_KEYS_DIR", keys.to_str().unwrap());
    assert!(fixture.mistakes()[0].contains("2026-11.key"));
    chmod(&sealing, 0o400);
    assert_eq!(fixture.config().secrets.sealing_keys_dir, Some(keys));
}

#[test]
fn sealing_keys_must_be_32_bytes_and_not_all_zero() {
    for key in ["not base64", &base64::engine::general_purpose::STANDARD.encode([0; 32]), "c2hvcnQ="] {
        let mut fixture = Fixture::new();
        fixture.file("k1.key", key);
        let folder = fixture.folder.path().to_str().unwrap().to_owned();
        fixture.set("SLIPWAY_SEALING_KEYS_DIR", &folder);
        let mistakes = fixture.mistakes();
        assert!(mistakes[0].contains("base64 of 32 bytes") && !mistakes[0].contains(key), "{mistakes:?}");
    }
}

#[test]
fn a_near_miss_of_a_variable_is_warned_about_and_kubernetes_own_variables_are_not() {
    let mut fixture = Fixture::new();
    fixture.set("SLIPWAY_CONCURENCY", "8");
    fixture.set("SLIPWAY_WORKER_SERVICE_HOST", "10.0.0.1");
    fixture.set("SLIPWAY_WORKER_PORT", "tcp://10.0.0.1:9090");
    let warnings = fixture.config().warnings;
    assert_eq!(warnings, ["SLIPWAY_CONCURENCY is ignored: no such variable; did you mean SLIPWAY_CONCURRENCY?"]);
}

#[test]
fn check_validates_and_starts_nothing() {
    let mut fixture = Fixture::new();
    fixture.worker().arg("--check").assert().success().stdout("the configuration is valid\n").stderr("");
    fixture.set("SLIPWAY_CONCURRENCY", "many");
    fixture.worker().arg("--check").assert().code(64);
}

#[test]
fn help_describes_every_variable_and_version_tells_the_version() {
    let command = || Command::new(env!("CARGO_BIN_EXE_slipway-worker"));
    let output = command().arg("--help").output().unwrap();
    assert!(output.status.success());
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
    command().arg("--version").assert().success().stdout("slipway-worker 0.1.0\n");
    command().arg("--verbose").assert().code(64).stdout("");
}

#[test]
fn no_two_entries_share_a_name_and_secret_ones_have_no_default() {
    let entries: Vec<_> = GROUPS.iter().flat_map(|group| group.entries).collect();
    let names: std::collections::BTreeSet<_> = entries.iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), entries.len());
    assert!(entries.iter().all(|entry| !entry.secret || !matches!(entry.unset, Unset::Default(_))));
}
