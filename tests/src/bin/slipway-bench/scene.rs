//! The world that is measured in: a broker, and a PostgreSQL that counts its statements and keeps what it has committed,
//! as one does that matters. Each run gets a database of its own in it.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result};
use slipway_tests::stack::Stack;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::usage;

/// What an administrator sets who has a machine for it, and what counts.
const SETTINGS: &str = "shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.max = 10000
fsync = on
shared_buffers = '1GB'
max_wal_size = '2GB'
checkpoint_timeout = '1h'
";

/// Seconds of processor, statements and bytes, counted from somewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct CounterReading {
    /// SQL statements in the run's database, with those that begin and end transactions.
    pub statements: f64,
    /// Bytes of the write-ahead log.
    pub wal: f64,
    /// Seconds of processor of PostgreSQL's processes.
    pub postgres: f64,
    /// Seconds of processor of RabbitMQ's processes.
    pub broker: f64,
}

/// A world, entered by this thread.
pub struct BenchScene {
    /// Dropped before the world: what runs here is in its network.
    pub runtime: Runtime,
    sql: Client,
    databases: u32,
    /// All of it.
    pub stack: Stack,
}

/// Starts a world with so many servers, and does `work` on a thread of its own inside.
pub fn within<T: Send>(servers: u8, work: impl FnOnce(&mut BenchScene) -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| work(&mut BenchScene::start(servers)?));
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl BenchScene {
    fn start(servers: u8) -> Result<Self> {
        let stack = Stack::start(servers)?;
        let database = stack.world.database()?;
        database.stop()?;
        let settings = stack.world.folder().join("database/postgresql.auto.conf");
        fs::File::options().append(true).open(settings)?.write_all(SETTINGS.as_bytes())?;
        database.start()?;
        stack.world.enter()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let sql = runtime.block_on(connect(stack.world.database_url()))?;
        runtime.block_on(sql.batch_execute("CREATE EXTENSION pg_stat_statements"))?;
        Ok(Self { runtime, sql, databases: 0, stack })
    }

    /// The URL of a new, empty database. The one before is gone.
    pub async fn fresh_database(&mut self) -> Result<String> {
        let old = format!("DROP DATABASE IF EXISTS run{} WITH (FORCE)", self.databases);
        self.sql.batch_execute(&old).await?;
        self.databases += 1;
        self.sql.batch_execute(&format!("CREATE DATABASE run{}", self.databases)).await?;
        self.sql.batch_execute("CHECKPOINT").await?;
        let (server, _) = self.stack.world.database_url().rsplit_once('/').context("a URL with a database")?;
        Ok(format!("{server}/run{}", self.databases))
    }

    /// Begins to count statements anew, and reads the other counters.
    pub async fn begin(&self) -> Result<CounterReading> {
        self.sql.query("SELECT pg_stat_statements_reset()::text", &[]).await?;
        self.read().await
    }

    /// What was counted since `begin`.
    pub async fn since(&self, before: &CounterReading) -> Result<CounterReading> {
        let now = self.read().await?;
        Ok(CounterReading {
            statements: now.statements - before.statements,
            wal: now.wal - before.wal,
            postgres: now.postgres - before.postgres,
            broker: now.broker - before.broker,
        })
    }

    /// The statements that took most of PostgreSQL's time since `begin`: text, calls, milliseconds.
    pub async fn profile(&self) -> Result<Vec<(String, f64, f64)>> {
        let query = "SELECT regexp_replace(query, '\\s+', ' ', 'g'), calls::float8, total_exec_time
                     FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid WHERE datname = $1
                     ORDER BY total_exec_time DESC LIMIT 20";
        let rows = self.sql.query(query, &[&format!("run{}", self.databases)]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
    }

    async fn read(&self) -> Result<CounterReading> {
        let query = "SELECT coalesce(sum(calls), 0)::float8, (pg_current_wal_insert_lsn() - '0/0')::float8
                     FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid WHERE datname = $1";
        let row = self.sql.query_one(query, &[&format!("run{}", self.databases)]).await?;
        let folder = self.stack.world.folder().display().to_string();
        let data = format!("-D {folder}/database");
        let postgres = usage::processes(|command, _| command.contains(&data));
        let base = format!("RABBITMQ_BASE={folder}/");
        let broker = usage::processes(|_, environment| environment.contains(&base));
        Ok(CounterReading {
            statements: row.get(0),
            wal: row.get(1),
            postgres: usage::seconds(&postgres),
            broker: usage::seconds(&broker),
        })
    }

    /// The worker's program, or the one whose stages do nothing, on this database.
    pub fn program(&self, program: &str, name: &str, database: &str) -> Result<Command> {
        let mut command = self.stack.program(program)?;
        command.env("SLIPWAY_DATABASE_URL", database).env("SLIPWAY_WORKER_NAME", name);
        Ok(command)
    }
}

/// A connection to PostgreSQL.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
