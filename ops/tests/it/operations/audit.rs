//! Whatever an operator changes is recorded: every command of the tree is either known to change nothing, or is run here
//! and leaves its row.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use slipway_worker::amqp;
use slipway_worker::store::{Operator, OperatorAction};

use super::*;
use crate::services::roles::{database_url, grant};

/// What changes nothing that others see; keys are made as files of this machine alone.
const UNRECORDED: [&str; 29] = [
    "pending",
    "placement explain",
    "plan",
    "watch",
    "audit",
    "pushes",
    "notify",
    "status",
    "workers list",
    "explain",
    "projects versions",
    "projects owners",
    "projects allowances",
    "servers allowances",
    "deployments list",
    "deployments show",
    "servers list",
    "servers show",
    "sources list",
    "dead-letters groups",
    "dead-letters list",
    "dead-letters show",
    "dead-letters audit",
    "outbox list",
    "topology check",
    "keys generate sealing",
    "keys generate age",
    "keys public",
    "help",
];

/// Every command that has none below it.
fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
    let mut below = command.get_subcommands().filter(|c| c.get_name() != "help").peekable();
    if below.peek().is_none() {
        found.insert(path.trim().to_owned());
    }
    for sub in below {
        leaves(sub, &format!("{path} {}", sub.get_name()), found);
    }
}

/// One operator on one database and broker.
struct Shift {
    database: TestDatabase,
    amqp: SecretString,
    recorded: BTreeSet<String>,
}

impl Shift {
    /// Runs a command, which must succeed and be recorded as `action`.
    async fn does(&mut self, leaf: &str, action: OperatorAction, rest: &[&str]) {
        let before = self.database.count("SELECT count(*) FROM operator_audit").await;
        let mut command = operator(Some(&self.database), Some(&self.amqp));
        command.env("SSH_CLIENT", "203.0.113.77 50000 22").write_stdin(sample());
        let words: Vec<&str> = leaf.split(' ').chain(rest.iter().copied()).collect();
        let said = run(command, &words).await;
        assert!(said.starts_with("exit: 0\n"), "{words:?}: {said}");
        assert_eq!(self.database.count("SELECT count(*) FROM operator_audit").await, before + 1, "{leaf}: {said}");
        let newest = json_of(operator(Some(&self.database), None), &["audit", "--limit", "1"]).await[0].clone();
        let seen = [&newest["action"], &newest["from"]["user"], &newest["from"]["ssh_client"]];
        assert_eq!(seen, [&json!(action.as_str()), &json!("ada"), &json!("203.0.113.77")], "{newest}");
        assert!(newest["who"].as_str().unwrap().starts_with("ada@"), "{newest}");
        assert!(newest["from"]["uid"].is_u64() && newest["from"]["host"].is_string(), "{newest}");
        self.recorded.insert(leaf.to_owned());
    }

    /// A message that is aside; gives its number.
    async fn aside(&self) -> String {
        let sql = "INSERT INTO outbox (message_id, type, exchange, routing_key, body, must_route, breaks, set_aside_at)
                   VALUES ('m', 't', 'slipway.events', 'k', '', false, 3, now()) RETURNING position";
        self.database.sql.query_one(sql, &[]).await.unwrap().get::<_, i64>(0).to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_changes_something_leaves_a_row() {
    let (mut database, store) = TestDatabase::migrated("w").await;
    // As an operator with the privileges that are documented.
    grant(&database).await;
    database.url = database_url(&database, "operator");
    let amqp = vhost();
    let link = broker(&amqp, "test").connect("test").await.unwrap();
    amqp::declare(&link.channel().await.unwrap()).await.unwrap();
    let mut shift = Shift { database, amqp, recorded: BTreeSet::new() };

    shift.does("topology apply", OperatorAction::ApplyTopology, &[]).await;
    shift.does("servers add", OperatorAction::AddServer, &["vps-9", "--address", "203.0.113.9"]).await;
    for (on, allow, revoke) in [
        (["servers", "vps-9"], OperatorAction::AllowServer, OperatorAction::RevokeServer),
        (["projects", "shop"], OperatorAction::AllowProject, OperatorAction::RevokeProject),
    ] {
        let [kind, name] = on;
        let mut arguments = vec![name, "cap:SYS_NICE", "--why", "a trial"];
        if kind == "projects" {
            arguments.extend(["--id", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11"]);
        }
        shift.does(&format!("{kind} allow"), allow, &arguments).await;
        shift.does(&format!("{kind} revoke"), revoke, &arguments).await;
    }
    shift.does("servers label", OperatorAction::LabelServer, &["vps-9", "--region", "eu", "--label", "ssd"]).await;
    shift.does("servers cordon", OperatorAction::CordonServer, &["vps-9", "--why", "a new disk"]).await;
    shift.does("servers uncordon", OperatorAction::UncordonServer, &["vps-9"]).await;
    shift.does("servers maintenance", OperatorAction::MaintainServer, &["vps-9", "--for", "2h"]).await;
    shift.does("servers drain", OperatorAction::CordonServer, &["vps-9", "--why", "it's given back"]).await;
    shift.does("servers remove", OperatorAction::RemoveServer, &["vps-9", "--why", "it's gone"]).await;
    shift.does("submit", OperatorAction::Submit, &["-"]).await;
    shift.does("sources allow", OperatorAction::AllowSource, &["/slipway/cli", "--why", "operators"]).await;
    shift.does("sources revoke", OperatorAction::RevokeSource, &["1", "--why", "nobody else may"]).await;
    let rows = json_of(operator(Some(&shift.database), None), &["audit", "/slipway/cli", "--action", "sources"]).await;
    let seen: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| (&row["subject"], &row["details"]["projects"])).collect();
    let rule = (&json!("rule 1 of /slipway/cli"), &json!("*"));
    assert_eq!(seen, [rule, rule], "both are found by the source, and tell what the rule allowed");

    accept(&store, &with_secrets("shop")).await;
    succeed(&store).await;
    shift.does("stop", OperatorAction::Stop, &["shop", "--why", "the trial is over"]).await;
    shift.does("start", OperatorAction::Start, &["shop"]).await;
    shift.does("projects move", OperatorAction::Move, &["shop", "--why", "more room"]).await;
    shift.does("undeploy", OperatorAction::Undeploy, &["shop", "--yes"]).await;
    let version = json_of(operator(Some(&shift.database), None), &["projects", "versions", "shop"]).await;
    let version = version[0]["deployment_id"].as_str().unwrap().to_owned();
    shift.does("rollback", OperatorAction::Rollback, &["shop", "--to", &version]).await;
    let to = ["shop", "--server", "vps-267179", "--to", "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c99", "--why", "it moved"];
    shift.does("projects hand-over", OperatorAction::HandOver, &to).await;

    for leaf in ["cancel", "deployments cancel"] {
        let waiting = accept(&store, &with_secrets("bakery")).await.to_string();
        shift.does(leaf, OperatorAction::Cancel, &[&waiting]).await;
    }

    let waiting = accept(&store, &with_secrets("bakery")).await.to_string();
    shift.does("deployments retry", OperatorAction::RetryDeployment, &[&waiting]).await;
    shift.does("cancel", OperatorAction::Cancel, &[&waiting]).await;
    let dead = "INSERT INTO workers (name, version, seen_at) VALUES ('dead', '1', now() - interval '1 min')";
    shift.database.sql.execute(dead, &[]).await.unwrap();
    shift.does("workers forget", OperatorAction::ForgetWorker, &["dead"]).await;

    accept(&store, &with_secrets("kiosk")).await;
    fail(&store, ErrorCode::PortOccupied).await;
    let letters = json_of(operator(Some(&shift.database), None), &["dead-letters", "list"]).await;
    let id = letters[0]["id"].as_str().unwrap().to_owned();
    for (leaf, action, rest) in [
        ("dead-letters note", OperatorAction::NoteDeadLetter, &["looked at"][..]),
        ("dead-letters export", OperatorAction::ExportDeadLetter, &[]),
        ("dead-letters archive", OperatorAction::ArchiveDeadLetter, &["--why", "old"]),
        ("dead-letters restore", OperatorAction::RestoreDeadLetter, &[]),
        ("dead-letters replay", OperatorAction::ReplayDeadLetter, &[]),
    ] {
        let rest: Vec<&str> = [id.as_str()].into_iter().chain(rest.iter().copied()).collect();
        shift.does(leaf, action, &rest).await;
    }

    let subscriber = amqp::subscribe(&link, &[]).await.unwrap();
    let queue = subscriber.queue();
    shift.does("events replay", OperatorAction::ReplayEvents, &["--since", "1h", "--to", &queue]).await;

    let (first, second) = (shift.aside().await, shift.aside().await);
    shift.does("outbox resend", OperatorAction::ResendMessage, &[&first]).await;
    shift.does("outbox drop", OperatorAction::DropMessage, &[&second, "--why", "nobody needs it"]).await;

    // It forgets a secret and publishes: two rows, the second like those of its siblings.
    accept(&store, &with_secrets("florist")).await;
    succeed(&store).await;
    let said = run(operator(Some(&shift.database), Some(&shift.amqp)), &["projects", "rotate-key", "florist"]).await;
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let rows = json_of(operator(Some(&shift.database), None), &["audit", "--action", "projects rotate-key"]).await;
    assert_eq!(rows.as_array().unwrap().len(), 2, "{rows}");
    shift.recorded.insert("projects rotate-key".to_owned());
    // What it pins is recorded; a check needs a server, so its write is asked for here.
    let record = slipway_worker::store::ServerRecord {
        handle: "vps-8".parse().unwrap(),
        address: "203.0.113.8".parse().unwrap(),
        ssh_port: slipway_protocol::names::Port::new(22).unwrap(),
        ssh_user: "root".parse().unwrap(),
        host_key: None,
        trust_on_first_use: true,
        ssh_key_enc: None,
        notes: None,
        front_door: None,
    };
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake".parse().unwrap();
    assert!(store.pin_host_key(&record, &key, Some(&Operator::new("ada", None))).await.unwrap());
    let rows = json_of(operator(Some(&shift.database), None), &["audit", "vps-8", "--action", "servers"]).await;
    assert_eq!(rows[0]["action"], "servers check", "{rows}");
    shift.recorded.insert("servers check".to_owned());

    let mut tree = BTreeSet::new();
    leaves(&slipway::Cli::command(), "", &mut tree);
    let forgotten: Vec<_> =
        tree.iter().filter(|leaf| !shift.recorded.contains(*leaf) && !UNRECORDED.contains(&leaf.as_str())).collect();
    assert!(forgotten.is_empty(), "these change something and leave no row, or aren't in the list: {forgotten:?}");
    let gone: Vec<_> = UNRECORDED.iter().filter(|leaf| **leaf != "help" && !tree.contains(**leaf)).collect();
    assert!(gone.is_empty(), "these commands don't exist: {gone:?}");

    // What can't be recorded isn't done.
    let mut submit = operator(None, Some(&shift.amqp));
    submit.env("SLIPWAY_DATABASE_URL", "postgres://127.0.0.1:1/none").write_stdin(sample());
    assert!(run(submit, &["submit", "-"]).await.starts_with("exit: 4\n"));
}
