//! What a producer may do: to which servers, with whose secrets, under which source; and what it may tell in plain text.

mod rules;
mod tricks;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use slipway_deploy::secrets::bound::{SecretOwner, seal_for};
use slipway_deploy::secrets::seal::{self, KeyRing};
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName};
use slipway_protocol::{Change, ProjectId};
use slipway_worker::run::Credentials;
use slipway_worker::store::{Operator, ServerRecord, Store};
use tempfile::TempDir;

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, credentials, migrated, report, request,
};
use crate::services::vhost;

/// What no trick may get into a table, an event or a dead letter.
const SECRET: &str = "hunter2-hunter2";
const HOST_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake";
const PROJECT: &str = "6f1a52c0-4f0e-4c55-9d0a-0e8f2a7a1b11";
const ANOTHER: &str = "11111111-4f0e-4c55-9d0a-0e8f2a7a1b11";

/// Keys and mounted secrets as an operator has put them, with no old form allowed.
struct Keys {
    _dir: TempDir,
    public: Vec<u8>,
    credentials: Credentials,
}

fn keys() -> Keys {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = seal::generate("k").unwrap();
    let (sealing, mounted) = (dir.path().join("sealing"), dir.path().join("mounted"));
    fs::create_dir(&sealing).unwrap();
    fs::write(sealing.join("k.key"), private.expose_secret()).unwrap();
    fs::set_permissions(sealing.join("k.key"), fs::Permissions::from_mode(0o400)).unwrap();
    let put = |folder: &str, name: &str| {
        fs::create_dir_all(mounted.join(folder)).unwrap();
        fs::write(mounted.join(folder).join(name), SECRET).unwrap();
    };
    put(&format!("projects/{PROJECT}"), "own");
    put(&format!("projects/{ANOTHER}"), "foreign");
    put("owners/evil", "evils");
    put("", "flat");
    let credentials = Credentials {
        sealing: KeyRing::load(&sealing).unwrap(),
        mounted_dir: Some(mounted),
        servers_from_events: false,
        unbound_boxes: false,
        ..credentials()
    };
    Keys { public: STANDARD.decode(public).unwrap(), _dir: dir, credentials }
}

impl Keys {
    fn boxed(&self, project: &str, name: &str) -> Value {
        let owner = SecretOwner { project: ProjectId(project.parse().unwrap()), name };
        let sealed_box = seal_for(&self.public, owner, &SECRET.into()).unwrap();
        json!({ "sealed": { "key_id": "k", "sealed_box": sealed_box } })
    }

    fn unbound(&self) -> Value {
        json!({ "sealed": { "key_id": "k", "sealed_box": seal::seal(&self.public, &SECRET.into()).unwrap() } })
    }
}

fn ada(why: &str) -> Operator {
    Operator::new("ada", Some(why))
}

async fn enlist(store: &Store) {
    let record = ServerRecord {
        handle: ServerHandle::new("vps-1").unwrap(),
        address: Host::new("198.51.100.1").unwrap(),
        ssh_port: Port::new(22).unwrap(),
        ssh_user: UserName::new("root").unwrap(),
        host_key: Some(HostKey::new(HOST_KEY).unwrap()),
        trust_on_first_use: false,
        ssh_key_enc: None,
        notes: None,
        front_door: None,
    };
    store.put_server(&record, &ada("it's ours")).await.unwrap();
}

/// A request of the project for the inventory's server.
fn for_server(edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    request(|event| {
        event["data"]["project"]["id"] = PROJECT.into();
        event["data"]["server"] = json!({ "handle": "vps-1" });
        edit(event);
    })
}

/// The same credentials, which a worker takes away.
fn keys_of(keys: &Keys) -> Credentials {
    let sealing = keys.credentials.mounted_dir.as_deref().and_then(Path::parent).unwrap().join("sealing");
    Credentials {
        sealing: KeyRing::load(&sealing).unwrap(),
        mounted_dir: keys.credentials.mounted_dir.clone(),
        servers_from_events: false,
        unbound_boxes: false,
        ..credentials()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_forms_of_secrets_are_read_while_they_may_and_are_told() {
    let keys = keys();
    let ((database, store), amqp) = (migrated("w").await, vhost());
    enlist(&store).await;
    let mut outside = TestClient::new(&amqp).await;
    let pipeline = ScriptedStages::new(|_| async { Ok(report(Change::Changed)) });
    let credentials = Credentials { unbound_boxes: true, unscoped_references: true, ..keys_of(&keys) };
    let options = WorkerOptions { credentials, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, pipeline, options);
    let secrets = json!({ "A": keys.unbound(), "B": { "reference": "flat" }, "C": keys.boxed(PROJECT, "C") });
    outside.publish(&for_server(|event| event["data"]["secrets"] = secrets)).await;
    let accepted = outside.event().await;
    assert_eq!(accepted["data"]["kind"], "accepted");
    assert_eq!(accepted["data"]["unbound_secrets"], json!(["A", "B"]));
    let bound = json!({ "C": keys.boxed(PROJECT, "C") });
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    assert_eq!(store.counts().await.unwrap().with_unbound_secrets, 1);
    outside.publish(&for_server(|event| event["data"]["secrets"] = bound)).await;
    assert_eq!(outside.event().await["data"]["unbound_secrets"], Value::Null);
    assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    assert_eq!(store.counts().await.unwrap().with_unbound_secrets, 0, "the project has mended its ways");
    assert_eq!(database.count("SELECT count(*) FROM deployments WHERE unbound_secrets = '{A,B}'").await, 1);
    worker.stop().await;
}
