//! The images of the sample projects, as a registry stores them: one prepared layer each, plus a configuration that
//! says which part of a project it is, how it behaves and which commit it was built from.

use anyhow::Result;
use serde_json::{Value, json};

/// Which module of a project an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// HTTP on container port 8000, with a database and redis.
    Backend,
    /// A long-running process that requires `TELEGRAM_BOT_TOKEN`.
    TgBot,
    /// HTTP on container port 4321.
    Frontend,
    /// A long-running process.
    NotificationsWorker,
}

impl Module {
    /// Every module.
    pub const ALL: [Self; 4] = [Self::Backend, Self::TgBot, Self::Frontend, Self::NotificationsWorker];

    /// The name of the compose service.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::TgBot => "tg_bot",
            Self::Frontend => "frontend",
            Self::NotificationsWorker => "notifications_worker",
        }
    }

    /// The end of the image's name, as the projects' CI spells it.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::TgBot => "tg-bot",
            Self::Frontend => "frontend",
            Self::NotificationsWorker => "notifications-worker",
        }
    }
}

/// How a module's image behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// Works.
    #[default]
    Healthy,
    /// Exits with 1 after a second, every time.
    CrashLoop,
    /// Runs, but `/health` says 503.
    Unhealthy,
    /// Exits with 1 at once, with a migration tool's message on stderr.
    FailingMigration,
    /// Runs, but every path is 404.
    NotFound,
    /// Can't be started: the program that it names isn't in it.
    NoProgram,
    /// Runs, and never listens.
    Deaf,
    /// Listens twelve seconds late.
    Late,
    /// Exits with 1 after twelve seconds, in which it doesn't listen.
    LateExit,
    /// Exits with 1 after four seconds, every time.
    SoonExit,
    /// Runs, but every path is 500.
    Errors,
    /// Answers for ten seconds, then exits with 1, every time.
    Dies,
}

impl Variant {
    const ALL: [Self; 12] = [
        Self::Healthy,
        Self::CrashLoop,
        Self::Unhealthy,
        Self::FailingMigration,
        Self::NotFound,
        Self::NoProgram,
        Self::Deaf,
        Self::Late,
        Self::LateExit,
        Self::SoonExit,
        Self::Errors,
        Self::Dies,
    ];

    /// The one that a Dockerfile's `SAMPLE_VARIANT` names.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "",
            Self::CrashLoop => "crash-loop",
            Self::Unhealthy => "unhealthy",
            Self::FailingMigration => "failing-migration",
            Self::NotFound => "not-found",
            Self::NoProgram => "no-program",
            Self::Deaf => "deaf",
            Self::Late => "late",
            Self::LateExit => "late-exit",
            Self::SoonExit => "soon-exit",
            Self::Errors => "errors",
            Self::Dies => "dies",
        }
    }

    /// What a container of `program` runs.
    fn command(self, program: &str) -> Value {
        let shell = |script: &str| json!(["/bin/sh", "-c", format!("trap 'exit 0' TERM; {script}")]);
        match self {
            Self::NoProgram => json!(["/app/missing"]),
            Self::Deaf => shell("echo 'waits for nothing'; sleep 100000 & wait $!"),
            Self::Late => shell(&format!("sleep 12 & wait $!; exec /app/{program}")),
            Self::LateExit => shell("sleep 12 & wait $!; echo 'fatal: the licence has expired' >&2; exit 1"),
            Self::SoonExit => shell("sleep 4 & wait $!; echo 'fatal: nobody has written' >&2; exit 1"),
            _ => json!([format!("/app/{program}")]),
        }
    }
}

/// An image that can be put into a registry.
#[derive(Debug, Clone)]
pub struct Image {
    pub(super) layer: &'static str,
    config: Value,
}

impl Image {
    /// A module's image, built from `commit` when that is known.
    #[must_use]
    pub fn module(module: Module, variant: Variant, commit: Option<&str>) -> Self {
        let mut env = vec![PATH.to_owned(), format!("SAMPLE_VARIANT={}", variant.name())];
        env.extend(commit.map(|commit| format!("SAMPLE_COMMIT={commit}")));
        let ports = match module {
            Module::Backend => json!({"8000/tcp": {}}),
            Module::Frontend => json!({"4321/tcp": {}}),
            Module::TgBot | Module::NotificationsWorker => json!({}),
        };
        Self {
            layer: "app",
            config: json!({"Env": env, "Cmd": variant.command(module.service()), "ExposedPorts": ports, "WorkingDir": "/app"}),
        }
    }

    pub(super) fn redis() -> Self {
        Self {
            layer: "redis",
            config: json!({
                "Env": [PATH], "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["redis-server"],
                "ExposedPorts": {"6379/tcp": {}}, "Volumes": {"/data": {}}, "WorkingDir": "/data",
            }),
        }
    }

    pub(super) fn postgres() -> Self {
        Self {
            layer: "postgres",
            config: json!({
                "Env": [PATH], "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["postgres"],
                "ExposedPorts": {"5432/tcp": {}}, "Volumes": {"/var/lib/postgresql/data": {}}, "StopSignal": "SIGINT",
            }),
        }
    }

    /// The front door's, configured as the official one of that version.
    pub(super) fn caddy() -> Self {
        Self {
            layer: "caddy",
            config: json!({
                "Env": [PATH, "CADDY_VERSION=v2.11.4", "XDG_CONFIG_HOME=/config", "XDG_DATA_HOME=/data"],
                "Cmd": ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"],
                "ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "443/udp": {}, "2019/tcp": {}}, "WorkingDir": "/srv",
            }),
        }
    }

    /// With a label, such as the commit that a builder notes.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.config["Labels"][name] = value.into();
        self
    }

    /// The image's configuration blob.
    pub(super) fn configuration(&self, diff_id: &str) -> Result<Vec<u8>> {
        let blob = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "slipway tests"}],
        });
        Ok(serde_json::to_vec(&blob)?)
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
