//! A notifier and what it works on: a database, a virtual host, a folder with its routing file and secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slipway_tests::people::{SlackStandIn, TelegramStandIn, WebhookReceiver};
use slipway_tests::stack::binaries;
use slipway_worker::amqp::{self, BrokerConnection, Publisher};
use slipway_worker::message::Outgoing;
use uuid::Uuid;

pub use crate::services::test_worker::eventually;
use crate::services::{TestDatabase, broker, vhost};

pub const TOKEN: &str = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";
pub const KEY: &str = "a-key-of-a-receiver-of-thirty-two-bytes-or-more";
/// The operators' chat.
pub const OPS: &str = "-1001000000001";

pub struct Scene {
    pub database: TestDatabase,
    pub amqp: SecretString,
    pub folder: tempfile::TempDir,
    pub telegram: TelegramStandIn,
    pub slack: SlackStandIn,
    pub receiver: WebhookReceiver,
    link: BrokerConnection,
    publisher: Publisher,
}

/// The process; killed when dropped.
pub struct Notifier(Child);

impl Notifier {
    /// As a power cut would.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scene {
    pub async fn new() -> Self {
        let (database, _store) = TestDatabase::migrated("maker").await;
        let amqp = vhost();
        let link = broker(&amqp, "outside").connect("test").await.unwrap();
        amqp::declare(&link.channel().await.unwrap()).await.unwrap();
        let publisher = Publisher::open(&link).await.unwrap();
        let scene = Self {
            database,
            amqp,
            folder: tempfile::tempdir().unwrap(),
            telegram: TelegramStandIn::start(TOKEN, &[OPS, "-100", "77"]).await.unwrap(),
            slack: SlackStandIn::start().await.unwrap(),
            receiver: WebhookReceiver::start(KEY.as_bytes()).await.unwrap(),
            link,
            publisher,
        };
        scene.secret("bot", TOKEN);
        scene.secret("slack", &scene.slack.url());
        scene.secret("key", KEY);
        scene
    }

    /// A file that its owner alone may read.
    pub fn secret(&self, name: &str, content: &str) {
        let path = self.folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, format!("{content}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// The routing file: `channels` and `rules` as they are, with the stand-ins' addresses for `TELEGRAM` and `RECEIVER`.
    pub fn route(&self, text: &str) {
        let text = text.replace("TELEGRAM", &self.telegram.url()).replace("RECEIVER", &self.receiver.url());
        std::fs::write(self.folder.path().join("routing.yaml"), text).unwrap();
    }

    /// The command line, with nothing of this machine's environment.
    pub fn slipway(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binaries().unwrap().join("slipway"));
        command
            .env_clear()
            .env("NO_COLOR", "1")
            .env("SLIPWAY_AMQP_URL", self.amqp.expose_secret())
            .env("SLIPWAY_DATABASE_URL", self.database.url.expose_secret())
            .env("SLIPWAY_LOG", "info")
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command
    }

    /// What a command has said.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.slipway();
        command.args(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Its standard output as JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Starts the notifier; its queue is there when this returns.
    pub async fn notifier(&self, environment: &[(&str, &str)]) -> Notifier {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = self.slipway();
        command.args(["notify", "routing.yaml"]).envs(environment.iter().copied());
        let notifier = Notifier(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        eventually("the notifier consumes", || async {
            let queue = amqp::queue(&self.link, "slipway.notify").await.unwrap();
            queue.is_some_and(|queue| queue.consumers == 1)
        })
        .await;
        notifier
    }

    /// Publishes a result as a worker does.
    pub async fn publish(&self, event: &Value) {
        let (slug, outcome) = (&event["data"]["project"]["slug"], &event["data"]["outcome"]);
        let message = Outgoing {
            exchange: "slipway.events".to_owned(),
            routing_key: format!("result.{}.{}", slug.as_str().unwrap_or("unknown"), outcome.as_str().unwrap()),
            message_id: event["id"].as_str().unwrap().to_owned(),
            event_type: event["type"].as_str().unwrap().to_owned(),
            content_type: Some("application/cloudevents+json".to_owned()),
            body: event.to_string().into_bytes(),
            ..Outgoing::default()
        };
        self.publisher.publish(&message).await.unwrap();
    }

    /// How many rows have that.
    pub async fn count(&self, condition: &str) -> i64 {
        self.database.count(&format!("SELECT count(*) FROM notifications WHERE {condition}")).await
    }

    /// A connection of nobody in particular.
    pub fn link(&self) -> &BrokerConnection {
        &self.link
    }
}

impl Drop for Scene {
    #[expect(clippy::print_stderr, reason = "shows what the notifier said where a test has failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the notifier's log:\n{}", self.log());
        }
    }
}

/// A frozen sample as a new event of `slug`, which no chat has asked for; `change` it.
pub fn event(sample: &str, slug: &str, change: impl FnOnce(&mut Value)) -> Value {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sample = std::fs::read(root.join("protocol/samples").join(sample)).unwrap();
    let mut event: Value = serde_json::from_slice(&sample).unwrap();
    event["id"] = Uuid::new_v4().to_string().into();
    event["time"] = Timestamp::now().to_string().into();
    event["data"]["deployment_id"] = Uuid::new_v4().to_string().into();
    event["data"]["project"]["slug"] = slug.into();
    event["data"]["correlation"] = json!({});
    change(&mut event["data"]);
    event
}

/// A deployment that failed by the project's own fault: told by itself.
pub fn failed(slug: &str, change: impl FnOnce(&mut Value)) -> Value {
    event("result-failed.v1.json", slug, |data| {
        data["failure"]["code"] = "compose-not-allowed".into();
        data["failure"]["class"] = "permanent".into();
        change(data);
    })
}

/// A deployment that failed since its server is down.
pub fn server_down(slug: &str, server: &str) -> Value {
    event("result-failed.v1.json", slug, |data| {
        data["server"] = server.into();
        data["failure"]["code"] = "server-unreachable".into();
        data["failure"]["class"] = "infrastructure".into();
        data["failure"]["stage"] = "preflight".into();
        data["failure"]["message"] = format!("{server} doesn't answer on port 22").into();
        data["failure"]["next_action"] = "Check the server".into();
    })
}

/// Time for what should not happen: longer than any poll of the notifier's.
pub const LONG: Duration = Duration::from_secs(6);
