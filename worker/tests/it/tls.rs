//! TLS to RabbitMQ and PostgreSQL with a private certificate authority: who trusts it connects, and nobody else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::services::proxy::Proxy;
use crate::services::test_worker::outgoing;
use crate::services::{Postgres, Rabbit, free_port, url};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use secrecy::SecretString;
use slipway_protocol::topology;
use slipway_worker::amqp::{self, BrokerConnection, BrokerEndpoints, Publisher};
use slipway_worker::message::Outgoing;
use slipway_worker::store::Store;

/// An authority, and a certificate of `localhost` that it has signed.
struct Authority {
    ca: String,
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Self { ca, certificate: server.pem(), key: key.serialize_pem() }
    }

    /// Writes the three into `folder`; a server refuses a key that others can read.
    fn write(&self, folder: &Path) -> [PathBuf; 3] {
        let files = [("ca.pem", &self.ca), ("server.pem", &self.certificate), ("server.key", &self.key)];
        files.map(|(name, content)| {
            let path = folder.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path
        })
    }
}

fn chain(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

/// What comes over TLS is made readable as anything else is.
async fn texts_are_repaired(link: &BrokerConnection, port: u16) {
    amqp::declare(&link.channel().await.unwrap()).await.unwrap();
    let mut requests = amqp::consume(link, topology::DEPLOYMENTS_QUEUE, 1).await.unwrap();
    let proxy = Proxy::start(port).await;
    let outside = crate::services::broker(&url(proxy.port(), 0), "outside").connect("test").await.unwrap();
    let publisher = Publisher::open(&outside).await.unwrap();
    proxy.garble();
    let mut message = Outgoing { content_type: Some("~/json".to_owned()), ..outgoing(b"{}", &[("a~", "b~")]) };
    message.routing_key.push_str(".~~");
    publisher.publish(&message).await.unwrap();
    let delivered = requests.next().await.unwrap().unwrap();
    let incoming = &delivered.incoming;
    assert_eq!((incoming.content_type.as_deref(), &incoming.body[..]), (Some("?/json"), &b"{}"[..]));
    assert_eq!(incoming.headers, [("a?".to_owned(), "b\u{fffd}".to_owned())].into());
    assert_eq!(incoming.routing_key, "slipway.project.ready.v1.??");
    assert!(delivered.ack().await.unwrap());
    outside.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_trusts_the_authority_connects_to_the_broker_and_the_database() {
    let (right, wrong) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let [trusted, ..] = right.write(folder.path());
    let other = tempfile::tempdir().unwrap();
    let [mistrusted, ..] = wrong.write(other.path());
    let port = free_port();
    let (rabbit, postgres) = tokio::task::spawn_blocking(move || {
        let rabbit = Rabbit::with(|folder| {
            let [ca, certificate, key] = right.write(folder).map(|path| path.display().to_string());
            format!(
                "listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {ca}\nssl_options.certfile = \
                 {certificate}\nssl_options.keyfile = {key}\n"
            )
        });
        let postgres = Postgres::start(|folder| {
            let [_, certificate, key] = right.write(folder).map(|path| path.display().to_string());
            vec!["ssl=on".to_owned(), format!("ssl_cert_file={certificate}"), format!("ssl_key_file={key}")]
        });
        (rabbit, postgres)
    })
    .await
    .unwrap();

    let amqps: SecretString = format!("amqps://slipway:slipway@localhost:{port}/t0").into();
    let broker = |ca: Option<&Path>| BrokerEndpoints::new(&amqps, ca, "w").unwrap();
    let link = broker(Some(&trusted)).connect("test").await.unwrap();
    texts_are_repaired(&link, rabbit.port()).await;
    link.close().await;
    for ca in [Some(mistrusted.as_path()), None] {
        let refused = chain(broker(ca).connect("test").await.err().unwrap());
        assert!(refused.contains(&format!("amqps://localhost:{port}/t0: ")), "{refused}");
        assert!(refused.contains("certificate") && refused.contains("SLIPWAY_CA_FILE"), "{refused}");
    }

    let url: SecretString =
        format!("postgresql://slipway@localhost:{}/postgres?sslmode=require", postgres.port()).into();
    let store = |ca: Option<&Path>| Store::new(&url, ca, "w").unwrap();
    store(Some(&trusted)).migrate().await.unwrap();
    for ca in [Some(mistrusted.as_path()), None] {
        let refused = chain(store(ca).migrate().await.err().unwrap());
        assert!(refused.contains("certificate") && refused.contains("SLIPWAY_CA_FILE"), "{refused}");
        let refused = chain(store(ca).counts().await.err().unwrap());
        assert!(refused.contains("certificate") && refused.contains("SLIPWAY_CA_FILE"), "{refused}");
    }
    drop((rabbit, postgres));
}
