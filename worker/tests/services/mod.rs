//! PostgreSQL and RabbitMQ for tests, on ephemeral loopback ports: one of each for all tests of a run, where each test
//! gets a database and a virtual host of its own, and private ones for whoever breaks them. The command line's tests
//! use this, too.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unused_imports, reason = "as above")]
#![expect(clippy::unwrap_used, reason = "tests")]

pub mod history;
pub mod ledger;
pub mod pgbouncer;
pub mod postgres;
pub mod privileges;
pub mod proxy;
pub mod rabbit;
pub mod roles;
pub mod scripted;
mod server;
pub mod test_worker;

use std::time::{Duration, Instant};

pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use rabbit::{Rabbit, url, vhost};
use secrecy::SecretString;
pub use server::free_port;
use slipway_worker::amqp::BrokerEndpoints;
use slipway_worker::store::Store;

pub fn broker(url: &SecretString, name: &str) -> BrokerEndpoints {
    BrokerEndpoints::new(url, None, name).unwrap()
}

/// A fresh database; its name and a plain connection for looking around.
pub struct TestDatabase {
    pub name: String,
    port: u16,
    pub url: SecretString,
    pub sql: tokio_postgres::Client,
}

impl TestDatabase {
    pub async fn new() -> Self {
        Self::at(tokio::task::spawn_blocking(postgres::shared).await.unwrap()).await
    }

    /// In the PostgreSQL behind `port`.
    pub async fn at(port: u16) -> Self {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let admin = postgres::connected(&Self::url(port, "postgres")).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = Self::url(port, &name);
        let sql = postgres::connected(&url).await;
        Self { name, port, url: url.into(), sql }
    }

    /// With the schema, as `worker` sees it.
    pub async fn migrated(worker: &str) -> (Self, Store) {
        Self::new().await.with_schema(worker).await
    }

    pub async fn with_schema(self, worker: &str) -> (Self, Store) {
        let store = self.store(worker);
        store.migrate().await.unwrap();
        (self, store)
    }

    pub fn store(&self, worker: &str) -> Store {
        Store::new(&self.url, None, worker).unwrap()
    }

    fn url(port: u16, name: &str) -> String {
        format!("postgresql://slipway@127.0.0.1:{port}/{name}")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection to the server's own database, to act on this one from outside.
    pub async fn outside(&self) -> tokio_postgres::Client {
        postgres::connected(&Self::url(self.port, "postgres")).await
    }

    /// A connection to the database of that name behind `port`.
    pub async fn connected(port: u16, name: &str) -> tokio_postgres::Client {
        postgres::connected(&Self::url(port, name)).await
    }

    /// One more connection.
    pub async fn another(&self) -> tokio_postgres::Client {
        use secrecy::ExposeSecret as _;
        postgres::connected(self.url.expose_secret()).await
    }

    /// One number from a query without parameters.
    pub async fn count(&self, query: &str) -> i64 {
        self.sql.query_one(query, &[]).await.unwrap().get(0)
    }
}
