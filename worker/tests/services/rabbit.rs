//! RabbitMQ for tests.

use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use secrecy::SecretString;

use super::privileges::broker_roles;
use super::server::{ServerProcess, Shared, folder, free_port, until};

const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
/// Virtual hosts of a broker of one's own.
const FEW: usize = 4;
/// Virtual hosts of the shared one, each of which costs it a fifth of a second: a whole run takes some 110, twenty of them
/// for the crash points' lanes, and one that is tried again takes more.
const MANY: usize = 160;

/// A RabbitMQ of its own, which can be stopped, frozen and started.
pub struct Rabbit {
    server: ServerProcess,
    environment: String,
    node: String,
}

impl Rabbit {
    pub fn start() -> Self {
        Self::with(|_| String::new())
    }

    /// Starts one; `prepare` puts files into its folder and gives lines of its configuration that need them.
    pub fn with(prepare: impl FnOnce(&Path) -> String) -> Self {
        let folder = folder();
        let configuration = prepare(&folder);
        let Setup { script, port, environment, node } = setup(&folder, FEW, &configuration);
        let rabbit = Self { server: ServerProcess::keep(&folder, &script, port), environment, node };
        rabbit.wait();
        rabbit
    }

    fn wait(&self) {
        wait(self.server.port);
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
}

/// The URL of a virtual host behind `port`.
pub fn url(port: u16, vhost: usize) -> SecretString {
    format!("amqp://slipway:slipway@127.0.0.1:{port}/t{vhost}").into()
}

/// A virtual host that nobody else uses, in the RabbitMQ that all tests of a run share.
pub fn vhost() -> SecretString {
    let script = |folder: &Path| {
        let setup = setup(folder, MANY, "");
        (setup.script, setup.port)
    };
    let shared = Shared::get("rabbitmq", script, wait);
    let next = shared.next();
    assert!(next < MANY, "more tests than virtual hosts: raise MANY");
    url(shared.port, next)
}

struct Setup {
    script: String,
    port: u16,
    environment: String,
    node: String,
}

/// Prepares a node in the folder.
fn setup(folder: &Path, vhosts: usize, configuration: &str) -> Setup {
    let (port, epmd, distribution) = (free_port(), free_port(), free_port());
    let vhost = |i: usize| format!("t{i}");
    let mut users = vec![serde_json::json!({ "name": "slipway", "password": "slipway", "tags": ["administrator"] })];
    let may = |user: &str, i: usize, [configure, write, read]: [&str; 3]| serde_json::json!({ "user": user, "vhost": vhost(i), "configure": configure, "write": write, "read": read });
    let mut permissions: Vec<_> = (0..vhosts).map(|i| may("slipway", i, [".*"; 3])).collect();
    // The documented roles are there for whoever has a broker of their own.
    for [role, configure, write, read] in broker_roles() {
        users.push(serde_json::json!({ "name": role, "password": "slipway", "tags": [] }));
        permissions.extend((0..FEW).map(|i| may(&role, i, [&configure, &write, &read])));
    }
    let definitions = serde_json::json!({
        "users": users,
        "vhosts": (0..vhosts).map(|i| serde_json::json!({ "name": vhost(i) })).collect::<Vec<_>>(),
        "permissions": permissions,
    });
    std::fs::write(folder.join("definitions.json"), definitions.to_string()).unwrap();
    let conf = format!(
        "listeners.tcp.default = 127.0.0.1:{port}\nlog.file = false\nlog.console = true\nlog.console.level = warning\n\
         disk_free_limit.absolute = 50MB\nload_definitions = {}/definitions.json\n{}",
        folder.display(),
        configuration
    );
    std::fs::write(folder.join("rabbit.conf"), conf).unwrap();
    std::fs::write(folder.join("enabled_plugins"), "[].").unwrap();
    std::fs::create_dir(folder.join("home")).unwrap();
    let cookie = folder.join("home/.erlang.cookie");
    std::fs::write(&cookie, "slipwaytest").unwrap();
    std::fs::set_permissions(&cookie, Permissions::from_mode(0o400)).unwrap();
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
         -kernel inet_dist_use_interface {{127,0,0,1}} -rabbit channel_tick_interval 1000\" {PROGRAM}\n",
        folder.display()
    );
    Setup { script, port, environment, node }
}

fn wait(port: u16) {
    until("RabbitMQ", || {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut first = [0];
        stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && stream.read_exact(&mut first).is_ok() && first == [1]
    });
}
