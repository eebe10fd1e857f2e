//! PgBouncer for tests.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use secrecy::SecretString;

use super::TestDatabase;
use super::server::{ServerProcess, folder, free_port, until};

/// A PgBouncer of one test, with a name for each way to a database.
pub struct PgBouncer {
    server: ServerProcess,
}

impl PgBouncer {
    /// Starts one with these ways: name, database, and settings such as `pool_mode=session`.
    pub fn start(ways: &[(&str, &TestDatabase, &str)]) -> Self {
        let (folder, port) = (folder(), free_port());
        let (settings, users) = (folder.join("pgbouncer.ini"), folder.join("users"));
        let mut text = "[databases]\n".to_owned();
        for (name, database, way) in ways {
            let (server, database) = (database.port(), &database.name);
            writeln!(text, "{name} = host=127.0.0.1 port={server} dbname={database} {way}").unwrap();
        }
        // What a pooler refuses by default is refused.
        write!(
            text,
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n\
             auth_file = {}\n",
            users.display()
        )
        .unwrap();
        std::fs::write(&settings, text).unwrap();
        std::fs::write(&users, "\"slipway\" \"\"\n").unwrap();
        let server = ServerProcess::keep(&folder, &script(&settings), port);
        until("PgBouncer", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { server }
    }

    pub fn url(&self, name: &str) -> SecretString {
        format!("postgresql://slipway@127.0.0.1:{}/{name}?sslmode=disable", self.server.port).into()
    }
}

/// It refuses to run as root.
fn script(settings: &Path) -> String {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let user = if root { "setpriv --reuid=postgres --regid=postgres --clear-groups" } else { "" };
    format!("exec {user} /usr/sbin/pgbouncer {}", settings.display())
}
