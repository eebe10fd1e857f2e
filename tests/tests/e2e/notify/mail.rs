//! Mail through a real server: encrypted, with a login, and with an id that is the same at each try.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use slipway_tests::world::Cache;

use super::scene::{Scene, eventually, failed};

const PASSWORD: &str = "hunter2-hunter2";

/// The mail server; killed when dropped.
struct MailServer {
    child: Child,
    port: u64,
    mails: Receiver<Value>,
    _cache: Cache,
}

impl MailServer {
    /// It replies so to the first mails, and takes the others.
    fn start(folder: &Path, refuse: &[&str]) -> Self {
        certify(folder);
        let options = json!({
            "certificate": folder.join("server.pem"), "key": folder.join("server.key"),
            "login": "slipway", "password": PASSWORD, "refuse": refuse,
        });
        let cache = Cache::open().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(cache.python())
            .arg(root.join("python/mailbox.py"))
            .arg(options.to_string())
            .env_clear()
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let (sender, mails) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, port: first["port"].as_u64().unwrap(), mails, _cache: cache }
    }

    fn next(&self) -> Value {
        self.mails.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, and a certificate of `localhost` that it has signed.
fn certify(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("server.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

fn routing(port: u64) -> String {
    format!(
        r#"channels:
  mail:
    email:
      from: "Slipway <slipway@example.org>"
      to: [ops@example.org, "Ada <ada@example.org>"]
      server: localhost
      port: {port}
      username: slipway
      password_file: password
    per_minute: 600
rules:
  - to: [mail]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_encrypted_and_again_with_the_same_id_when_it_was_not_taken() {
    let scene = Scene::new().await;
    let server = MailServer::start(scene.folder.path(), &["451 try again later"]);
    scene.secret("password", PASSWORD);
    scene.route(&routing(server.port));
    let notifier = scene.notifier(&[("SLIPWAY_CA_FILE", "ca.pem")]).await;
    let event = failed("läden", |data| {
        data["project"]["slug"] = "shop".into();
        data["failure"]["message"] = "Gebäck fehlt\n.\nRSET".into();
    });
    scene.publish(&event).await;
    eventually("it's refused at first", || async { scene.count("problem LIKE '%451%'").await == 1 }).await;
    scene.database.sql.execute("UPDATE notifications SET due_at = now()", &[]).await.unwrap();
    let mail = server.next();
    assert_eq!(mail["to"], json!(["ops@example.org", "ada@example.org"]));
    let id = format!("<{}.slipway@example.org>", event["id"].as_str().unwrap());
    assert_eq!((&mail["id"], &mail["tls"], &mail["date"]), (&json!(id), &json!(true), &json!(true)), "{mail}");
    assert_eq!((&mail["from"], &mail["automatic"]), (&json!("slipway@example.org"), &json!("auto-generated")));
    assert_eq!(mail["subject"], "shop 0123456 couldn't be deployed on vps-267179");
    let text = mail["text"].as_str().unwrap().replace("\r\n", "\n");
    assert!(text.contains("Gebäck fehlt\n.\nRSET\n") && text.contains("Next: "), "{text}");
    eventually("it's marked", || async { scene.count("told").await == 1 }).await;
    assert_eq!(notifier.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_without_its_certificate_or_login_gets_no_mail_and_is_told() {
    let scene = Scene::new().await;
    let server = MailServer::start(scene.folder.path(), &[]);
    scene.secret("password", "not-the-password");
    scene.route(&routing(server.port));
    let problem = |part: &'static str| {
        let scene = &scene;
        let like = format!("SELECT count(*) FROM notification_channels WHERE problem LIKE '%{part}%'");
        async move { eventually(part, || async { scene.database.count(&like).await == 1 }).await }
    };
    let stranger = scene.notifier(&[]).await;
    scene.publish(&failed("shop", |_| {})).await;
    problem("certificate").await;
    assert_eq!(stranger.stop(), Some(0));
    let wrong = scene.notifier(&[("SLIPWAY_CA_FILE", "ca.pem")]).await;
    problem("refuses the login").await;
    assert_eq!(wrong.stop(), Some(0));
    assert!(!scene.log().contains("not-the-password"));
    assert!(server.mails.try_recv().is_err(), "nothing was sent");
    scene.secret("password", PASSWORD);
    let _right = scene.notifier(&[("SLIPWAY_CA_FILE", "ca.pem")]).await;
    assert_eq!(server.next()["subject"], "shop 0123456 couldn't be deployed on vps-267179");
}
