//! The five roles with exactly the privileges that `ops/privileges.md` gives them.

use std::process::{Child, Command, Stdio};

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use slipway_worker::amqp::BrokerConnection;

use super::*;
use crate::services::privileges::broker_url;
use crate::services::roles::{database_url, grant};
use crate::services::test_worker::eventually;
use crate::services::{Rabbit, url};

async fn connect(amqp: &SecretString, role: &str) -> BrokerConnection {
    broker(&broker_url(amqp, role), role).connect("test").await.unwrap()
}

/// Ended when dropped.
struct Notifier(Child, #[expect(dead_code, reason = "is there as long as it")] tempfile::TempDir);

impl Drop for Notifier {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `slipway notify`, with one channel for all results, whose receiver isn't there.
fn notifier(database: &TestDatabase, amqp: &SecretString) -> Notifier {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routing.yaml");
    let routing = "channels:\n  team:\n    webhook: { url: 'http://127.0.0.1:1/', secret_files: [key] }\nrules:\n  - to: [team]\n";
    std::fs::write(&file, routing).unwrap();
    std::fs::write(folder.path().join("key"), "a-key-of-a-receiver-of-thirty-two-bytes-or-more").unwrap();
    std::fs::set_permissions(folder.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway"));
    command.arg("notify").arg(&file).current_dir(folder.path());
    command.env("SLIPWAY_DATABASE_URL", database_url(database, "notify").expose_secret());
    command.env("SLIPWAY_AMQP_URL", broker_url(amqp, "notify").expose_secret());
    Notifier(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), folder)
}

/// The next event that comes to the orchestrator's queue.
async fn next(channel: &Channel) -> Value {
    loop {
        let got = channel.basic_get("orchestrator.events".into(), BasicGetOptions { no_ack: true }).await.unwrap();
        if let Some(message) = got {
            return serde_json::from_slice(&message.delivery.data).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_works_with_exactly_the_privileges_that_are_documented() {
    let rabbit = tokio::task::spawn_blocking(Rabbit::start).await.unwrap();
    let amqp = url(rabbit.port(), 0);
    let database = TestDatabase::new().await;
    // The worker owns its database, and is nobody else.
    let name = &database.name;
    let owner = format!("CREATE ROLE {name}_worker LOGIN; ALTER DATABASE {name} OWNER TO {name}_worker;");
    database.sql.batch_execute(&owner).await.unwrap();
    let store = Store::new(&database_url(&database, "worker"), None, "w").unwrap();
    store.migrate().await.unwrap();
    grant(&database).await;
    let done = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let worker = TestWorker::start(store.clone(), &broker_url(&amqp, "worker"), done, WorkerOptions::default());
    assert!(worker.readiness.ready().await);

    // An orchestrator has a queue of its own, asks for a deployment, and hears of it.
    let link = connect(&amqp, "orchestrator").await;
    let orchestrator = link.channel().await.unwrap();
    let (queue, none) = ("orchestrator.events", FieldTable::default());
    orchestrator.queue_declare(queue.into(), QueueDeclareOptions::default(), none.clone()).await.unwrap();
    let bind = QueueBindOptions::default();
    orchestrator.queue_bind(queue.into(), "slipway.events".into(), "#".into(), bind, none.clone()).await.unwrap();
    let publish = |exchange: &'static str| {
        let (key, body) = ("slipway.project.ready.v1", request(|_| {}));
        let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let channel = orchestrator.clone();
        async move { channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await }
    };
    publish("slipway.requests").await.unwrap();
    let outcome = async {
        loop {
            let event = next(&orchestrator).await;
            if event["type"] == "slipway.deployment.result.v1" {
                return event["data"]["outcome"].clone();
            }
        }
    };
    assert_eq!(outcome.await, "succeeded");
    // It takes nobody's requests, and tells nothing in the workers' name.
    let consume = BasicConsumeOptions::default();
    let stolen = orchestrator.basic_consume("slipway.deployments".into(), "".into(), consume, none.clone()).await;
    assert!(stolen.unwrap_err().to_string().contains("ACCESS_REFUSED"));
    let orchestrator = link.channel().await.unwrap();
    let body = request(|_| {});
    let forged = orchestrator.basic_publish(
        "slipway.events".into(),
        "result.shop.succeeded".into(),
        BasicPublishOptions::default(),
        &body,
        BasicProperties::default(),
    );
    forged.await.unwrap();
    eventually("the broker closes the channel", || async { !orchestrator.status().connected() }).await;

    let run_as = async |role: &str, args: &[&str], stdin: Vec<u8>| {
        let mut command = operator(None, Some(&broker_url(&amqp, role)));
        command.env("SLIPWAY_DATABASE_URL", database_url(&database, role).expose_secret()).write_stdin(stdin);
        run(command, args).await
    };
    // Monitoring sees how things stand, and nothing of what was asked for.
    let seen = run_as("monitoring", &["status", "--json"], Vec::new()).await;
    assert!(seen.starts_with("exit: 0\n") && seen.contains("\"ok\":true"), "{seen}");
    for refused in [&["deployments", "list"][..], &["dead-letters", "list"], &["servers", "list"], &["audit"]] {
        let said = run_as("monitoring", refused, Vec::new()).await;
        assert!(said.starts_with("exit: 4\n") && said.contains("permission denied"), "{refused:?}: {said}");
    }
    let declared = run_as("monitoring", &["topology", "apply"], Vec::new()).await;
    assert!(!declared.starts_with("exit: 0\n"), "{declared}");

    // An operator declares, asks, lists, and changes no schema.
    for (args, stdin) in [
        (&["topology", "apply"][..], Vec::new()),
        (&["topology", "check"], Vec::new()),
        (&["submit", "-", "--watch"], request(|_| {})),
        (&["events", "replay", "--since", "1h", "--to", "orchestrator.events"], Vec::new()),
        (&["status"], Vec::new()),
        (&["deployments", "list"], Vec::new()),
        (&["dead-letters", "groups"], Vec::new()),
        (&["servers", "list"], Vec::new()),
        (&["workers", "list"], Vec::new()),
        (&["sources", "list"], Vec::new()),
        (&["projects", "owners"], Vec::new()),
        (&["outbox", "list"], Vec::new()),
        (&["pending"], Vec::new()),
        (&["pushes"], Vec::new()),
        (&["audit"], Vec::new()),
    ] {
        let said = run_as("operator", args, stdin).await;
        assert!(said.starts_with("exit: 0\n"), "{args:?}: {said}");
    }
    let notifier = notifier(&database, &amqp);
    eventually("somebody is to be told", || async {
        database.count("SELECT count(*) FROM notification_channels").await == 1
    })
    .await;
    let said = run_as("operator", &["events", "replay", "--since", "1h", "--to", "slipway.notify"], Vec::new()).await;
    assert!(said.starts_with("exit: 0\n"), "{said}");
    // It's taken in, and tried; nobody takes it there.
    let tried =
        "SELECT count(*) FROM notifications n JOIN notification_channels c ON c.name = n.channel WHERE c.failures > 0";
    eventually("it's told", || async { database.count(tried).await > 0 }).await;
    drop(notifier);
    // Who tells people asks for nothing.
    for refused in [&["deployments", "list"][..], &["submit", "-"]] {
        let said = run_as("notify", refused, request(|_| {})).await;
        assert!(!said.starts_with("exit: 0\n"), "{refused:?}: {said}");
    }

    let sql = TestDatabase::connected(database.port(), &database.name).await;
    sql.batch_execute(&format!("SET ROLE {}_operator", database.name)).await.unwrap();
    assert!(sql.batch_execute("CREATE TABLE mine (x int)").await.is_err());
    assert!(sql.batch_execute("DELETE FROM operator_audit").await.is_err(), "the record stays");
    worker.stop().await;
}
