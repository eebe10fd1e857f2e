//! Every environment variable of the worker, in one table: its parser, its documentation (`--help`) and what a mistake
//! is compared with. The defaults are in `defaults`; what several variables mean together is decided in `sections`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use slipway_deploy::{DoorImage, PlainWord};

use super::defaults;
use super::files::{self, CaFile, SecretFile};
use super::parse::{self, LogFormat};
use super::url::ConnectionUrl;
pub use super::variable::{Unset, Variable, VariableDoc, VariableGroup};
use crate::scheduler::PortRange;
use crate::store::DatabasePooler;

macro_rules! variables {
    ($($title:literal { $($id:ident: $type:ty = $name:literal, $unset:expr, $secret:literal, $parse:expr,
        $about:literal, $expected:literal;)* })*) => {
        $($(
            #[doc = $about]
            pub const $id: Variable<$type> = Variable {
                entry: VariableDoc { name: $name, unset: $unset, about: $about, expected: $expected, secret: $secret },
                parse: $parse,
            };
        )*)*

        /// The whole table, in the order of `--help`.
        pub const GROUPS: &[VariableGroup] = &[$(VariableGroup { title: $title, entries: &[$($id.entry,)*] },)*];

        /// Names of variables whose default doesn't pass their own parser; always empty, as a test proves.
        #[cfg(test)]
        pub(super) fn refused_defaults() -> Vec<&'static str> {
            let mut refused = Vec::new();
            $($(if let Unset::Default(value) = $id.entry.unset && ($id.parse)(value).is_err() {
                refused.push($name);
            })*)*
            refused
        }
    };
}

use Unset::{Default, Derived, Optional, Required};

variables! {
    "Connections" {
        AMQP_URL: ConnectionUrl = "SLIPWAY_AMQP_URL", Required, true, parse::amqp_url,
            "RabbitMQ; of a cluster's nodes all, separated by commas or spaces",
            "a URL such as amqps://user:password@host:5671/vhost, or several, with special characters percent-encoded";
        DATABASE_URL: ConnectionUrl = "SLIPWAY_DATABASE_URL", Required, true, parse::database_url,
            "PostgreSQL",
            "a URL such as postgresql://user:password@host:5432/database, with special characters percent-encoded";
        DATABASE_POOLER: DatabasePooler = "SLIPWAY_DATABASE_POOLER",
            Default(defaults::DATABASE_POOLER), false, parse::database_pooler,
            "What stands before PostgreSQL, such as PgBouncer, by its pool_mode", "none, session or transaction";
        DATABASE_DIRECT_URL: ConnectionUrl = "SLIPWAY_DATABASE_DIRECT_URL", Optional, true, parse::database_url,
            "PostgreSQL without the pooler, for notifications and changes of the schema; needed with transaction",
            "a URL such as SLIPWAY_DATABASE_URL";
        ADMIN_ADDR: SocketAddr = "SLIPWAY_ADMIN_ADDR", Default(defaults::ADMIN_ADDR), false, parse::socket_address,
            "Where /healthz, /readyz and /version are served", "an IP address and a port, such as 0.0.0.0:9090";
        CA_FILE: CaFile = "SLIPWAY_CA_FILE", Optional, false, files::ca_file,
            "Certificate authorities to trust for HTTPS beside the system's", "the path of a PEM file";
    }
    "This worker" {
        WORKER_NAME: String = "SLIPWAY_WORKER_NAME", Derived("host name and process id"), false, parse::worker_name,
            "Name of this process in leases, logs and dead letters; unique among all workers",
            "1 to 128 visible ASCII characters";
        CONCURRENCY: usize = "SLIPWAY_CONCURRENCY", Default(defaults::CONCURRENCY), false, parse::concurrency,
            "Deployments at once", "a number from 1 to 1000";
        DRAIN_TIMEOUT: Duration = "SLIPWAY_DRAIN_TIMEOUT",
            Default(defaults::DRAIN_TIMEOUT), false, parse::drain_timeout,
            "How long running deployments may go on after SIGTERM; shorter than what the supervisor grants",
            "a duration from 0s to 1h";
        LEASE: Duration = "SLIPWAY_LEASE", Default(defaults::LEASE), false, parse::lease,
            "How long a silent worker keeps its deployments before another takes them over",
            "a duration from 1s to 10m";
        VERSIONS: u32 = "SLIPWAY_VERSIONS", Default(defaults::VERSIONS), false, parse::versions,
            "To how many of its last versions a project may be rolled back", "a number from 1 to 100";
    }
    "All workers together" {
        SERVER_CONCURRENCY: u32 = "SLIPWAY_SERVER_CONCURRENCY",
            Default(defaults::SERVER_CONCURRENCY), false, parse::limit,
            "Deployments at once on one server; the same for all workers", "a number from 1 to 1000";
        REGISTRY_CONCURRENCY: u32 = "SLIPWAY_REGISTRY_CONCURRENCY",
            Default(defaults::REGISTRY_CONCURRENCY), false, parse::limit,
            "Deployments at once that pull from one registry; the same for all workers", "a number from 1 to 1000";
        SERVER_PATIENCE: Duration = "SLIPWAY_SERVER_PATIENCE",
            Default(defaults::SERVER_PATIENCE), false, parse::patience,
            "How long deployments wait for a server that can't be reached, before they go to the dead letters",
            "a duration from 1s to 168h";
    }
    "Placement: requests that name no server" {
        PLACEMENT_RAM_MB: u32 = "SLIPWAY_PLACEMENT_RAM_MB", Default(defaults::PLACEMENT_RAM_MB), false, parse::mib,
            "Memory that is set aside for a project whose request doesn't say it, in MiB", "a number from 1 to 16777216";
        PLACEMENT_DISK_MB: u32 = "SLIPWAY_PLACEMENT_DISK_MB", Default(defaults::PLACEMENT_DISK_MB), false, parse::mib,
            "Disk that is set aside for it, in MiB", "a number from 1 to 16777216";
        PLACEMENT_PORTS: PortRange = "SLIPWAY_PLACEMENT_PORTS", Default(defaults::PLACEMENT_PORTS), false, parse::port_range,
            "Ports of servers that are chosen from", "two ports with a hyphen between, such as 20000-29999";
        PLACEMENT_PROJECTS: u32 = "SLIPWAY_PLACEMENT_PROJECTS",
            Default(defaults::PLACEMENT_PROJECTS), false, parse::limit,
            "Projects that a server may have of which `slipway servers label` doesn't say it", "a number from 1 to 1000";
        PLACEMENT_LOAD: u32 = "SLIPWAY_PLACEMENT_LOAD", Default(defaults::PLACEMENT_LOAD), false, parse::limit,
            "Load of each processor above which a server gets no new project", "a number from 1 to 1000";
        PLACEMENT_WAIT: Duration = "SLIPWAY_PLACEMENT_WAIT", Default(defaults::PLACEMENT_WAIT), false, parse::retry,
            "How long a request waits for room that doesn't say it", "a duration from 1ms to 24h";
        SERVER_FACTS_INTERVAL: Duration = "SLIPWAY_SERVER_FACTS_INTERVAL",
            Default(defaults::SERVER_FACTS_INTERVAL), false, parse::push_interval,
            "How often each server is asked for its memory, disk, load and ports", "a duration from 10s to 24h";
    }
    "Attempts" {
        MAX_ATTEMPTS: u32 = "SLIPWAY_MAX_ATTEMPTS", Default(defaults::MAX_ATTEMPTS), false, parse::attempts,
            "Attempts of one deployment, before it goes to the dead letters", "a number from 1 to 100";
        RETRY_INITIAL: Duration = "SLIPWAY_RETRY_INITIAL", Default(defaults::RETRY_INITIAL), false, parse::retry,
            "Upper bound of the delay before the second attempt; it triples from one attempt to the next",
            "a duration from 1ms to 24h";
        RETRY_MAX: Duration = "SLIPWAY_RETRY_MAX", Default(defaults::RETRY_MAX), false, parse::retry,
            "Upper bound of any delay between attempts", "a duration from 1ms to 24h";
        COMMAND_TIMEOUT: Duration = "SLIPWAY_COMMAND_TIMEOUT",
            Default(defaults::COMMAND_TIMEOUT), false, parse::work_timeout,
            "Longest time for one command on a server", "a duration from 1s to 6h";
        HEALTH_TIMEOUT: Duration = "SLIPWAY_HEALTH_TIMEOUT",
            Default(defaults::HEALTH_TIMEOUT), false, parse::work_timeout,
            "Longest time for a project to become healthy", "a duration from 1s to 6h";
    }
    "Deadlines" {
        STAGE_TIMEOUT: Duration = "SLIPWAY_STAGE_TIMEOUT", Default(defaults::STAGE_TIMEOUT), false, parse::work_timeout,
            "Longest time for one stage of an attempt, its short retries included", "a duration from 1s to 6h";
        DEPLOYMENT_TIMEOUT: Duration = "SLIPWAY_DEPLOYMENT_TIMEOUT",
            Default(defaults::DEPLOYMENT_TIMEOUT), false, parse::long_duration,
            "Longest time for a deployment from its first attempt's start, all retries included",
            "a duration from 1s to 30 days";
        REQUEST_MAX_AGE: Duration = "SLIPWAY_REQUEST_MAX_AGE",
            Default(defaults::REQUEST_MAX_AGE), false, parse::long_duration,
            "Age of a request, by its event's time, at which no deployment of it is begun any more; replays are exempt",
            "a duration from 1s to 30 days";
        HALF_TIMEOUT: Duration = "SLIPWAY_HALF_TIMEOUT", Default(defaults::HALF_TIMEOUT), false, parse::long_duration,
            "How long one half of a request waits for the other, before its sender is told that it's missing",
            "a duration from 1s to 30 days";
    }
    "Servers" {
        SSH_KEY_FILE: SecretFile = "SLIPWAY_SSH_KEY_FILE", Optional, false, files::ssh_key_file,
            "Private key for servers that the inventory holds no key of",
            "the path of an OpenSSH or PEM private key, readable by the worker's user only";
        AGE_IDENTITY_FILE: SecretFile = "SLIPWAY_AGE_IDENTITY_FILE", Optional, false, files::age_identity_file,
            "age identity that opens the servers' keys in the inventory",
            "the path of an age identity (AGE-SECRET-KEY-1…), readable by the worker's user only";
        TRUST_NEW_SERVERS: bool = "SLIPWAY_TRUST_NEW_SERVERS",
            Default(defaults::TRUST_NEW_SERVERS), false, parse::switch,
            "Record the first host key of servers that the inventory doesn't know", "true or false";
        SERVERS_FROM_EVENTS: bool = "SLIPWAY_SERVERS_FROM_EVENTS",
            Default(defaults::SERVERS_FROM_EVENTS), false, parse::switch,
            "Deploy to servers that the inventory doesn't know, as an event describes them: \
             whoever may send events can have any server logged in to", "true or false";
        PROJECT_ROOT: String = "SLIPWAY_PROJECT_ROOT", Default(defaults::PROJECT_ROOT), false, parse::project_root,
            "Directory on the servers below which projects live",
            "an absolute path of letters, digits, '.', '_' and '-', without '..'";
    }
    "What a project may take of a server" {
        REPOSITORY_MIB: u64 = "SLIPWAY_REPOSITORY_MIB", Default(defaults::REPOSITORY_MIB), false, parse::repository_mib,
            "Largest commit, in MiB: its files on the disk, and what git sends for it", "a number from 1 to 102400";
        REPOSITORY_FILES: u64 = "SLIPWAY_REPOSITORY_FILES",
            Default(defaults::REPOSITORY_FILES), false, parse::repository_files,
            "Most files and folders of a commit", "a number from 1 to 10000000";
        LOG_ROTATION: bool = "SLIPWAY_LOG_ROTATION", Default(defaults::LOG_ROTATION), false, parse::switch,
            "Keep 30 MB of a container's log, where Docker would keep all and the compose files don't say otherwise",
            "true or false";
        PROCESSES: u32 = "SLIPWAY_PROCESSES", Default(defaults::PROCESSES), false, parse::processes,
            "Most processes of a container, where the compose files don't say otherwise; 0: any number",
            "a number from 0 to 4194304";
        NO_NEW_PRIVILEGES: bool = "SLIPWAY_NO_NEW_PRIVILEGES",
            Default(defaults::NO_NEW_PRIVILEGES), false, parse::switch,
            "Start containers so that their programs can't get more rights (sudo, setuid), where the compose files don't \
             say otherwise", "true or false";
    }
    "Front doors of servers" {
        FRONT_DOOR: bool = "SLIPWAY_FRONT_DOOR", Default(defaults::FRONT_DOOR), false, parse::on_off,
            "Whether servers have a reverse proxy before their projects, for releases without a gap, domains and HTTPS; \
             `slipway servers add --front-door` says otherwise for one of them", "on or off";
        FRONT_DOOR_IMAGE: DoorImage = "SLIPWAY_FRONT_DOOR_IMAGE",
            Default(defaults::FRONT_DOOR_IMAGE), false, parse::door_image,
            "The image of that proxy, an official one of Caddy", "an image with its host and its digest, such as docker.io/library/caddy:2@sha256:…";
        DRAIN_LIMIT: Duration = "SLIPWAY_DRAIN_LIMIT", Default(defaults::DRAIN_LIMIT), false, parse::drain_timeout,
            "How long requests, long ones and websockets too, to a release that is replaced may go on",
            "a duration from 0s to 1h";
        PROVING_TIME: Duration = "SLIPWAY_PROVING_TIME", Default(defaults::PROVING_TIME), false, parse::proving_time,
            "How long a new release must have run beside the one that serves before it gets the traffic",
            "a duration from 1s to 10m";
        ACME_DIRECTORY: PlainWord = "SLIPWAY_ACME_DIRECTORY", Optional, false, parse::acme_directory,
            "Directory of the authority that certificates come from; unset: the proxy's own defaults",
            "an https:// URL without credentials and query";
        ACME_EMAIL: PlainWord = "SLIPWAY_ACME_EMAIL", Optional, false, parse::email,
            "Whom the authority may write to", "an e-mail address";
        ACME_EAB_KEY_ID: PlainWord = "SLIPWAY_ACME_EAB_KEY_ID", Optional, false, parse::word,
            "Id of the account at the authority that the doors' accounts are bound to", "visible ASCII characters without quotes and braces";
        ACME_EAB_KEY_FILE: SecretFile = "SLIPWAY_ACME_EAB_KEY_FILE", Optional, false, files::secret_file,
            "That account's key", "the path of a file that holds the key as base64url";
        ACME_CA_FILE: CaFile = "SLIPWAY_ACME_CA_FILE", Optional, false, files::ca_file,
            "Certificate authorities that the doors trust for SLIPWAY_ACME_DIRECTORY beside their system's",
            "the path of a PEM file";
    }
    "Secrets of projects" {
        SEALING_KEYS_DIR: PathBuf = "SLIPWAY_SEALING_KEYS_DIR", Optional, false, files::sealing_keys_dir,
            "Private keys that open sealed secrets, one file <key_id>.key each",
            "the path of a directory of *.key files, each base64 of 32 bytes, readable by the worker's user only";
        SECRETS_DIR: PathBuf = "SLIPWAY_SECRETS_DIR", Optional, false, files::directory,
            "Mounted secrets: projects/ID/REFERENCE for one project, owners/OWNER/REFERENCE for all repositories of one owner, \
             in small letters", "the path of a directory";
        UNBOUND_BOXES: bool = "SLIPWAY_UNBOUND_BOXES", Default(defaults::UNBOUND_BOXES), false, parse::switch,
            "Open sealed boxes of the old form, which don't say for which project and variable they were made: \
             whoever sees one can use it under a project of his own", "true or false";
        UNSCOPED_REFERENCES: bool = "SLIPWAY_UNSCOPED_REFERENCES",
            Default(defaults::UNSCOPED_REFERENCES), false, parse::switch,
            "Read mounted secrets of the old form as well, which lie in the directory itself: for any project",
            "true or false";
        DIGEST_KEY_FILE: SecretFile = "SLIPWAY_DIGEST_KEY_FILE", Required, false, files::digest_key_file,
            "Key of the digests that tell whether a GitHub secret changed; the same for all workers",
            "the path of a file with at least 32 characters, such as `openssl rand -base64 48` makes";
    }
    "GitHub" {
        GITHUB_APP_ID: String = "SLIPWAY_GITHUB_APP_ID", Optional, false, parse::app_id,
            "The GitHub App's id or client id; or set SLIPWAY_GITHUB_TOKEN_FILE", "letters, digits and dots";
        GITHUB_APP_KEY_FILE: SecretFile = "SLIPWAY_GITHUB_APP_KEY_FILE", Optional, false, files::app_key_file,
            "The GitHub App's private key", "the path of a PEM private key, readable by the worker's user only";
        GITHUB_TOKEN_FILE: SecretFile = "SLIPWAY_GITHUB_TOKEN_FILE", Optional, false, files::secret_file,
            "A token instead of a GitHub App", "the path of a file that holds the token";
        GITHUB_API_URL: String = "SLIPWAY_GITHUB_API_URL", Default(defaults::GITHUB_API_URL), false, parse::base_url,
            "GitHub's REST API", "an http:// or https:// URL without credentials and query";
        GITHUB_GIT_URL: String = "SLIPWAY_GITHUB_GIT_URL", Default(defaults::GITHUB_GIT_URL), false, parse::base_url,
            "GitHub's git server", "an http:// or https:// URL without credentials and query";
        GITHUB_DEPLOYMENTS: bool = "SLIPWAY_GITHUB_DEPLOYMENTS",
            Default(defaults::GITHUB_DEPLOYMENTS), false, parse::switch,
            "Show deployments on the commits' pages on GitHub; needs the permission deployments: write",
            "true or false";
    }
    "Pushes" {
        PUSH_INTERVAL: Duration = "SLIPWAY_PUSH_INTERVAL", Default(defaults::PUSH_INTERVAL), false, parse::push_interval,
            "How often the branches are looked at whose pushes Slipway deploys; webhooks have them looked at sooner",
            "a duration from 10s to 24h";
        WEBHOOK_ADDR: SocketAddr = "SLIPWAY_WEBHOOK_ADDR", Optional, false, parse::socket_address,
            "Where POST /github takes GitHub's webhooks, behind something that speaks TLS; unset: nowhere",
            "an IP address and a port, such as 0.0.0.0:8080";
        WEBHOOK_SECRET_FILE: SecretFile = "SLIPWAY_WEBHOOK_SECRET_FILE", Optional, false, files::webhook_secret_file,
            "The secret that GitHub signs webhooks with",
            "the path of a file with at least 16 characters, such as `openssl rand -hex 32` makes";
    }
    "Registry" {
        REGISTRY: String = "SLIPWAY_REGISTRY", Default(defaults::REGISTRY), false, parse::registry,
            "Registry of the projects' images", "a host in lower case, with a port where needed";
        REGISTRY_USERNAME: String = "SLIPWAY_REGISTRY_USERNAME", Optional, false, parse::text,
            "User of a credential that may read packages; unset for public images", "visible characters on one line";
        REGISTRY_PASSWORD_FILE: SecretFile = "SLIPWAY_REGISTRY_PASSWORD_FILE", Optional, false, files::secret_file,
            "That user's password or token; read anew for each attempt", "the path of a file that holds the password";
        REGISTRY_CREDENTIALS_DIR: PathBuf = "SLIPWAY_REGISTRY_CREDENTIALS_DIR", Optional, false, files::registry_credentials_dir,
            "Credentials for the packages of single owners, a file for each, named after the owner in lower case; they come \
             before the one for all, and are read anew for each attempt",
            "the path of a directory of files that hold USERNAME:PASSWORD, readable by the worker's user only";
        REGISTRY_TOKEN_HOST: String = "SLIPWAY_REGISTRY_TOKEN_HOST", Optional, false, parse::registry,
            "Host that gives tokens for the registry, where it isn't the registry itself; known for Docker Hub and GitLab",
            "a host in lower case, with a port where needed";
    }
    "How long things are kept, in days" {
        KEEP_SECRETS: u32 = "SLIPWAY_KEEP_SECRETS", Default(defaults::KEEP_SECRETS), false, parse::days,
            "Sealed secrets of ended deployments that no rollback can need, and messages of dead letters that were dealt with", "a number of days from 1 to 36500";
        KEEP_JOURNAL: u32 = "SLIPWAY_KEEP_JOURNAL", Default(defaults::KEEP_JOURNAL), false, parse::days,
            "What the stages of a deployment did; the latest of each project stay", "a number of days from 1 to 36500";
        KEEP_DEPLOYMENTS: u32 = "SLIPWAY_KEEP_DEPLOYMENTS", Default(defaults::KEEP_DEPLOYMENTS), false, parse::days,
            "Deployments after their end; the latest of each project stay", "a number of days from 1 to 36500";
        KEEP_EVENTS: u32 = "SLIPWAY_KEEP_EVENTS", Default(defaults::KEEP_EVENTS), false, parse::days,
            "Published events, for `slipway deployments show` and `slipway watch`", "a number of days from 1 to 36500";
        KEEP_DEAD_LETTERS: u32 = "SLIPWAY_KEEP_DEAD_LETTERS", Default(defaults::KEEP_DEAD_LETTERS), false, parse::days,
            "Dead letters that were replayed or archived; open ones stay", "a number of days from 1 to 36500";
        KEEP_DEAD_LETTER_MESSAGES: u32 = "SLIPWAY_KEEP_DEAD_LETTER_MESSAGES", Default(defaults::KEEP_DEAD_LETTER_MESSAGES), false, parse::days,
            "Copies of dead letters in the queue slipway.dead-letters; no longer than SLIPWAY_KEEP_DEAD_LETTERS", "a number of days from 1 to 36500";
        KEEP_AUDIT: u32 = "SLIPWAY_KEEP_AUDIT", Default(defaults::KEEP_AUDIT), false, parse::days,
            "The record of operators, of cancellations and of rules that were revoked", "a number of days from 1 to 36500";
        KEEP_IDS: u32 = "SLIPWAY_KEEP_IDS", Default(defaults::KEEP_IDS), false, parse::days,
            "Ids of requests whose rows are gone, by which a duplicate is recognised", "a number of days from 1 to 36500";
    }
    "Telemetry" {
        LOG: String = "SLIPWAY_LOG", Default(defaults::LOG), false, parse::log_filter,
            "What is logged, to standard error; without lapin, since the worker itself tells what becomes of connections",
            "a level or tracing directives, such as info,slipway_deploy=debug";
        LOG_FORMAT: LogFormat = "SLIPWAY_LOG_FORMAT", Default(defaults::LOG_FORMAT), false, parse::log_format,
            "How it's logged", "json or text";
        OTLP_ENDPOINT: String = "OTEL_EXPORTER_OTLP_ENDPOINT", Optional, true, parse::otlp_endpoint,
            "Collector of traces, metrics and logs (http/protobuf); unset: none. \
             The other OTEL_ variables apply as the OpenTelemetry SDK reads them",
            "an http:// or https:// URL, such as http://127.0.0.1:4318";
    }
}
