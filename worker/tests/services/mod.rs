//! A private PostgreSQL and a private RabbitMQ for a test binary, on ephemeral loopback ports, started once and gone
//! with the process; each test gets a database and a virtual host of its own. The command line's tests use this, too.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![expect(clippy::unwrap_used, reason = "tests")]

pub mod book;
pub mod proxy;
pub mod rig;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use slipway_worker::amqp::Broker;
use slipway_worker::store::Store;

const POSTGRES: &str = "/usr/lib/postgresql/15/bin";
const RABBIT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
/// Virtual hosts that a broker starts with; one for each test that asks.
const VHOSTS: usize = 24;

/// A server process and its folder.
pub struct Server {
    keeper: Child,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn keep(folder: &Path, script: &str, port: u16) -> Self {
        std::fs::write(folder.join("server"), script).unwrap();
        let mut keeper = Command::new("setsid")
            .args(["sh", concat!(env!("CARGO_MANIFEST_DIR"), "/../worker/tests/services/run.sh")])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let answers = BufReader::new(keeper.stdout.take().unwrap());
        Self { keeper, answers, port }
    }

    /// Gives an order and waits until it's carried out.
    fn order(&mut self, word: &str) {
        writeln!(self.keeper.stdin.as_mut().unwrap(), "{word}").unwrap();
        self.answers.read_line(&mut String::new()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("slipway-worker-").tempdir().unwrap().keep();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(90), "{what} didn't come up");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A PostgreSQL of its own, which can be frozen and restarted.
pub struct Postgres {
    server: Server,
}

impl Postgres {
    /// Starts one; `prepare` puts files into its folder and gives settings that need them.
    pub fn start(prepare: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let (folder, port) = (folder(), free_port());
        let data = folder.join("data");
        let settings: String = prepare(&folder).iter().map(|setting| format!(" -c {setting}")).collect();
        // Postgres refuses to run as root.
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let user = if root { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" };
        if root {
            assert!(Command::new("chown").args(["-R", "postgres:"]).arg(&folder).status().unwrap().success());
        }
        let setup = format!(
            "cd {0} && {user} {POSTGRES}/initdb -D {1} -U slipway -A trust -N --locale=C -E UTF8",
            folder.display(),
            data.display()
        );
        let made = Command::new("sh").args(["-c", &setup]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let script = format!(
            "cd {}\nexec {user} {POSTGRES}/postgres -D {} -p {port} -c listen_addresses=127.0.0.1 \
             -c unix_socket_directories= -c fsync=off -c max_connections=400{settings}",
            folder.display(),
            data.display()
        );
        let postgres = Self { server: Server::keep(&folder, &script, port) };
        postgres.wait();
        postgres
    }

    fn wait(&self) {
        let port = self.server.port.to_string();
        until("PostgreSQL", || {
            let mut ask = Command::new(format!("{POSTGRES}/pg_isready"));
            ask.args(["--quiet", "--host=127.0.0.1", "--port", &port]).status().unwrap().success()
        });
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

/// This binary's PostgreSQL.
pub fn postgres() -> MutexGuard<'static, Postgres> {
    static SERVER: OnceLock<Mutex<Postgres>> = OnceLock::new();
    SERVER.get_or_init(|| Mutex::new(Postgres::start(|_| Vec::new()))).lock().unwrap()
}

/// A RabbitMQ of its own, which can be stopped, frozen and started.
pub struct Rabbit {
    server: Server,
    environment: String,
    node: String,
}

impl Rabbit {
    pub fn start() -> Self {
        Self::with(|_| String::new())
    }

    /// Starts one; `prepare` puts files into its folder and gives lines of its configuration that need them.
    pub fn with(prepare: impl FnOnce(&Path) -> String) -> Self {
        let (folder, port, epmd, distribution) = (folder(), free_port(), free_port(), free_port());
        let vhost = |i: usize| format!("t{i}");
        let definitions = serde_json::json!({
            "users": [{ "name": "slipway", "password": "slipway", "tags": ["administrator"] }],
            "vhosts": (0..VHOSTS).map(|i| serde_json::json!({ "name": vhost(i) })).collect::<Vec<_>>(),
            "permissions": (0..VHOSTS).map(|i| serde_json::json!({
                "user": "slipway", "vhost": vhost(i), "configure": ".*", "write": ".*", "read": ".*"
            })).collect::<Vec<_>>(),
        });
        std::fs::write(folder.join("definitions.json"), definitions.to_string()).unwrap();
        let conf = format!(
            "listeners.tcp.default = 127.0.0.1:{port}\nlog.file = false\nlog.console = true\nlog.console.level = warning\n\
             disk_free_limit.absolute = 50MB\nload_definitions = {}/definitions.json\n{}",
            folder.display(),
            prepare(&folder)
        );
        std::fs::write(folder.join("rabbit.conf"), conf).unwrap();
        std::fs::write(folder.join("enabled_plugins"), "[].").unwrap();
        std::fs::create_dir(folder.join("home")).unwrap();
        let cookie = folder.join("home/.erlang.cookie");
        std::fs::write(&cookie, "slipwaytest").unwrap();
        std::fs::set_permissions(&cookie, PermissionsExt::from_mode(0o400)).unwrap();
        let node = format!("t{port}@localhost");
        let environment = format!(
            "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 HOME={0}/home RABBITMQ_CONF_ENV_FILE=/dev/null \
             ERL_EPMD_PORT={epmd} ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP_BYTES=0",
            folder.display()
        );
        // epmd in the server's own process group, since the one that Erlang starts would outlive it.
        let script = format!(
            "D={}\nepmd -address 127.0.0.1 -port {epmd} &\nexec {environment} RABBITMQ_BASE=$D \
             RABBITMQ_MNESIA_BASE=$D/mnesia RABBITMQ_LOG_BASE=$D/log RABBITMQ_PID_FILE=$D/pid \
             RABBITMQ_CONFIG_FILE=$D/rabbit RABBITMQ_ENABLED_PLUGINS_FILE=$D/enabled_plugins \
             RABBITMQ_NODENAME={node} RABBITMQ_DIST_PORT={distribution} \
             RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=\"+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none \
             -kernel inet_dist_use_interface {{127,0,0,1}} -rabbit channel_tick_interval 1000\" {RABBIT}\n",
            folder.display()
        );
        let rabbit = Self { server: Server::keep(&folder, &script, port), environment, node };
        rabbit.wait();
        rabbit
    }

    fn wait(&self) {
        until("RabbitMQ", || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.server.port)) else { return false };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut first = [0];
            stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && stream.read_exact(&mut first).is_ok() && first == [1]
        });
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Kills the broker.
    pub fn stop(&mut self) {
        self.server.order("stop");
    }

    /// Stops it as its service does.
    pub fn terminate(&mut self) {
        self.server.order("end TERM");
    }

    /// Starts it again on the same data.
    pub fn restart(&mut self) {
        self.server.order("start");
        self.wait();
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

    /// Runs `rabbitmqctl`; a few seconds.
    pub fn control(&self, arguments: &[&str]) {
        let script = format!("exec {} RABBITMQ_CTL_ERL_ARGS='+S 1:1 +sbwt none' \"$@\"", self.environment);
        let mut control = Command::new("sh");
        control.args(["-c", &script, "sh", CONTROL, "-q", "-n", &self.node]).args(arguments);
        let done = control.output().unwrap();
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The URL of a virtual host.
    pub fn url(&self, vhost: usize) -> SecretString {
        url(self.server.port, vhost)
    }
}

/// The URL of a virtual host behind `port`.
pub fn url(port: u16, vhost: usize) -> SecretString {
    assert!(vhost < VHOSTS, "more tests than virtual hosts: raise VHOSTS");
    format!("amqp://slipway:slipway@127.0.0.1:{port}/t{vhost}").into()
}

/// A virtual host of this binary's shared RabbitMQ.
pub fn vhost() -> SecretString {
    static RABBIT: OnceLock<Rabbit> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    RABBIT.get_or_init(Rabbit::start).url(NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn broker(url: &SecretString, name: &str) -> Broker {
    Broker::new(url, None, name).unwrap()
}

/// A fresh database; its name and a plain connection for looking around.
pub struct Database {
    pub name: String,
    pub url: SecretString,
    pub sql: tokio_postgres::Client,
}

impl Database {
    pub async fn new() -> Self {
        let port = tokio::task::spawn_blocking(|| postgres().port()).await.unwrap();
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let admin = Self::connect(&Self::url(port, "postgres")).await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let url = Self::url(port, &name);
        let sql = Self::connect(&url).await;
        Self { name, url: url.into(), sql }
    }

    /// With the schema, as `worker` sees it.
    pub async fn migrated(worker: &str) -> (Self, Store) {
        let database = Self::new().await;
        let store = database.store(worker);
        store.migrate().await.unwrap();
        (database, store)
    }

    pub fn store(&self, worker: &str) -> Store {
        Store::new(&self.url, None, worker).unwrap()
    }

    fn url(port: u16, name: &str) -> String {
        format!("postgresql://slipway@127.0.0.1:{port}/{name}")
    }

    /// A connection to the server's own database, to act on this one from outside.
    pub async fn outside(&self) -> tokio_postgres::Client {
        let port = tokio::task::spawn_blocking(|| postgres().port()).await.unwrap();
        Self::connect(&Self::url(port, "postgres")).await
    }

    async fn connect(url: &str) -> tokio_postgres::Client {
        let begun = Instant::now();
        loop {
            match tokio_postgres::connect(url, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// One more connection.
    pub async fn another(&self) -> tokio_postgres::Client {
        use secrecy::ExposeSecret as _;
        Self::connect(self.url.expose_secret()).await
    }

    /// One number from a query without parameters.
    pub async fn count(&self, query: &str) -> i64 {
        self.sql.query_one(query, &[]).await.unwrap().get(0)
    }
}
