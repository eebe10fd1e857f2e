//! Servers: the inventory and their check.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_changes_only_what_is_given_and_keeps_keys_encrypted() {
    let (database, store) = TestDatabase::migrated("w").await;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let operator = || operator(Some(&database), None);
    let key = slipway_deploy::secrets::keys::DeployKey::generate("fleet").unwrap().private;
    std::fs::write(path("key"), key.expose_secret()).unwrap();
    let host_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake";

    snapshot("servers-add-without-address", &run(operator(), &["servers", "add", "vps-1"]).await);
    snapshot("servers-add", &run(operator(), &["servers", "add", "vps-1", "--address", "203.0.113.10"]).await);
    run(operator(), &["servers", "add", "vps-1", "--host-key", host_key, "--port", "2222", "--note", "8 GB"]).await;
    run(operator(), &["keys", "generate", "age", "--out", &path("identity")]).await;
    let added = ["servers", "add", "vps-1", "--key-file", &path("key"), "--age-identity-file", &path("identity")];
    let added = run(operator(), &added).await;
    assert!(added.starts_with("exit: 0\n"), "{added}");
    snapshot("servers-list", &run(operator(), &["servers", "list"]).await);

    let record = store.server(&"vps-1".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((record.ssh_port.get(), record.host_key.unwrap().as_str()), (2222, host_key));
    let encrypted = record.ssh_key_enc.unwrap();
    let opened = slipway_deploy::secrets::keys::decrypt_ssh_key(&encrypted, &dir.path().join("identity")).unwrap();
    assert_eq!(opened.expose_secret(), key.expose_secret());
    let listed = json_of(operator(), &["servers", "list"]).await;
    assert!(!listed.to_string().contains("AGE ENCRYPTED"), "{listed}");

    let outage = "INSERT INTO server_circuits VALUES ('vps-1', 4, now(), now() + interval '1 h'),
                                                     ('vps-9', 3, now(), now())";
    database.sql.execute(outage, &[]).await.unwrap();
    snapshot("servers-list-outage", &run(operator(), &["servers", "list"]).await);
    let circuit = &json_of(operator(), &["servers", "list"]).await[0]["circuit"];
    assert_eq!((&circuit["state"], &circuit["failures"]), (&json!("open"), &json!(4)));
    run(operator(), &["servers", "add", "vps-1", "--address", "203.0.113.11"]).await;
    assert_eq!(json_of(operator(), &["servers", "list"]).await[0]["circuit"], Value::Null, "whoever changed it tries");

    snapshot("servers-remove", &run(operator(), &["servers", "remove", "vps-1"]).await);
    snapshot("servers-remove-again", &run(operator(), &["servers", "remove", "vps-1"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_checked_says_why_and_what_to_do() {
    let (database, _store) = TestDatabase::migrated("w").await;
    let dir = tempfile::tempdir().unwrap();
    let operator = || operator(Some(&database), None);
    let key = dir.path().join("key");
    std::fs::write(&key, slipway_deploy::secrets::keys::DeployKey::generate("fleet").unwrap().private.expose_secret())
        .unwrap();
    // Taken and not listened on by anybody: a connection is refused at once.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    drop(socket);
    run(operator(), &["servers", "add", "vps-1", "--address", "127.0.0.1", "--port", &port, "--trust-on-first-use"])
        .await;

    snapshot("servers-check-unknown", &run(operator(), &["servers", "check", "vps-2"]).await);
    snapshot("servers-check-without-key", &run(operator(), &["servers", "check", "vps-1"]).await);
    let unreachable = ["servers", "check", "vps-1", "--ssh-key-file", key.to_str().unwrap()];
    let unreachable = run(operator(), &unreachable).await.replace(&port, "<port>");
    snapshot("servers-check-unreachable", &unreachable);
    let mut mistaken = operator();
    mistaken.env("SLIPWAY_FRONT_DOOR", "perhaps").env("SLIPWAY_ACME_EAB_KEY_ID", "kid-1");
    let mistaken = run(mistaken, &["servers", "check", "vps-1", "--ssh-key-file", key.to_str().unwrap()]).await;
    snapshot("servers-check-mistaken-front-door", &mistaken);
}
