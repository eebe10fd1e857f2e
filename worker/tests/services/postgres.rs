//! PostgreSQL for tests.

use std::path::Path;
use std::process::Command;

use super::server::{ServerProcess, Shared, folder, free_port, until};

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A PostgreSQL of its own, which can be frozen and restarted.
pub struct Postgres {
    server: ServerProcess,
}

impl Postgres {
    /// Starts one; `prepare` puts files into its folder and gives settings that need them.
    pub fn start(prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let folder = folder();
        let settings = prepare(&folder);
        let (script, port) = script(&folder, &settings);
        let postgres = Self { server: ServerProcess::keep(&folder, &script, port) };
        postgres.wait();
        postgres
    }

    /// Starts a standby that follows it, on its own port; what is committed then is on both.
    pub async fn standby(&self) -> Self {
        let port = self.server.port;
        let standby = tokio::task::spawn_blocking(move || {
            let folder = folder();
            let data = folder.join("data");
            let mut copy = Command::new(format!("{PROGRAMS}/pg_basebackup"));
            copy.args(["-h", "127.0.0.1", "-U", "slipway", "-c", "fast", "-R", "-p", &port.to_string(), "-D"])
                .arg(data);
            let copied = copy.output().unwrap();
            assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
            own(&folder);
            let port = free_port();
            let standby = Self { server: ServerProcess::keep(&folder, &program(&folder, port, &[]), port) };
            standby.wait();
            standby
        })
        .await
        .unwrap();
        let sql = connected(&format!("postgresql://slipway@127.0.0.1:{port}/postgres")).await;
        for change in ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"] {
            sql.batch_execute(change).await.unwrap();
        }
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        while sql.query_one(follows, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        standby
    }

    /// Ends it as a machine does that loses its power.
    pub fn kill(&mut self) {
        self.server.order("stop");
    }

    fn wait(&self) {
        wait(self.server.port);
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Stops all its processes; connections stay open, and nothing answers.
    pub fn freeze(&mut self) {
        self.server.order("freeze");
    }

    /// Lets them go on.
    pub fn thaw(&mut self) {
        self.server.order("thaw");
        self.wait();
    }

    /// Stops it as its service does, cutting connections off.
    pub fn stop(&mut self) {
        self.server.order("end INT");
    }

    /// Starts it again on the same data.
    pub fn restart(&mut self) {
        self.server.order("start");
        self.wait();
    }
}

/// The port of the PostgreSQL that all tests of a run share.
pub fn shared() -> u16 {
    // Some tests count the statements of their database.
    let counts = ["shared_preload_libraries=pg_stat_statements".to_owned()];
    Shared::get("postgres", |folder| script(folder, &counts), wait).port
}

/// Postgres refuses to run as root.
fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

fn user() -> &'static str {
    if is_root() { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" }
}

fn own(folder: &Path) {
    if is_root() {
        assert!(Command::new("chown").args(["-R", "postgres:"]).arg(folder).status().unwrap().success());
    }
}

/// Makes a cluster in the folder; gives what runs it, and where it listens.
fn script(folder: &Path, settings: &[String]) -> (String, u16) {
    let port = free_port();
    own(folder);
    let setup = format!(
        "cd {0} && {1} {PROGRAMS}/initdb -D {0}/data -U slipway -A trust -N --locale=C -E UTF8",
        folder.display(),
        user()
    );
    let made = Command::new("sh").args(["-c", &setup]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (program(folder, port, settings), port)
}

/// What runs the cluster in the folder.
fn program(folder: &Path, port: u16, settings: &[String]) -> String {
    // What a killed one leaves of shared memory goes with these, and with its folder.
    let alone = if is_root() { "unshare --ipc" } else { "" };
    let settings: String = settings.iter().map(|setting| format!(" -c {setting}")).collect();
    format!(
        "cd {0}\nexec {alone} {1} {PROGRAMS}/postgres -D {0}/data -p {port} -c listen_addresses=127.0.0.1 \
         -c unix_socket_directories= -c fsync=off -c max_connections=400 -c dynamic_shared_memory_type=mmap{settings}",
        folder.display(),
        user()
    )
}

fn wait(port: u16) {
    let port = port.to_string();
    until("PostgreSQL", || {
        let mut ask = Command::new(format!("{PROGRAMS}/pg_isready"));
        ask.args(["--quiet", "--host=127.0.0.1", "--port", &port]).status().unwrap().success()
    });
}

/// A connection to the database at `url`, as soon as there is one.
pub async fn connected(url: &str) -> tokio_postgres::Client {
    let begun = std::time::Instant::now();
    loop {
        match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
