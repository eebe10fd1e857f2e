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

/// Makes a cluster in the folder; gives what runs it, and where it listens.
fn script(folder: &Path, settings: &[String]) -> (String, u16) {
    let (port, data) = (free_port(), folder.join("data"));
    // Postgres refuses to run as root.
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let user = if root { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" };
    // What a killed one leaves of shared memory goes with these, and with its folder.
    let alone = if root { "unshare --ipc" } else { "" };
    if root {
        assert!(Command::new("chown").args(["-R", "postgres:"]).arg(folder).status().unwrap().success());
    }
    let setup = format!(
        "cd {0} && {user} {PROGRAMS}/initdb -D {1} -U slipway -A trust -N --locale=C -E UTF8",
        folder.display(),
        data.display()
    );
    let made = Command::new("sh").args(["-c", &setup]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings: String = settings.iter().map(|setting| format!(" -c {setting}")).collect();
    let script = format!(
        "cd {}\nexec {alone} {user} {PROGRAMS}/postgres -D {} -p {port} -c listen_addresses=127.0.0.1 \
         -c unix_socket_directories= -c fsync=off -c max_connections=400 -c dynamic_shared_memory_type=mmap{settings}",
        folder.display(),
        data.display()
    );
    (script, port)
}

fn wait(port: u16) {
    let port = port.to_string();
    until("PostgreSQL", || {
        let mut ask = Command::new(format!("{PROGRAMS}/pg_isready"));
        ask.args(["--quiet", "--host=127.0.0.1", "--port", &port]).status().unwrap().success()
    });
}
