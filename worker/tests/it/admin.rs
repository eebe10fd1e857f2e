//! The admin server and the way out of the process, asked over real sockets and with real signals.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use slipway_deploy::secrets::keys::DeployKey;
use slipway_worker::process::{AdminServer, LivenessProbe};
use slipway_worker::process::{Condition, Readiness};
use slipway_worker::process::{Drain, drain_on_signals, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// Status and JSON body of a GET.
fn get(address: SocketAddr, path: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn server(readiness: &Readiness, limit: Duration) -> (AdminServer, LivenessProbe) {
    let heartbeat = LivenessProbe::new(limit);
    let address = "127.0.0.1:0".parse().unwrap();
    (AdminServer::start(address, readiness.clone(), heartbeat.clone()).unwrap(), heartbeat)
}

#[test]
fn readyz_is_200_only_while_every_condition_is_met_and_names_the_one_that_is_not() {
    let drain = Drain::new(Duration::from_secs(1));
    let readiness = Readiness::new(&drain);
    let (server, _) = server(&readiness, PATIENCE);
    for condition in [Condition::Database, Condition::BrokerConsumer, Condition::BrokerPublisher, Condition::Canary] {
        assert_eq!(get(server.address(), "/readyz").0, 503);
        readiness.set_met(condition);
    }
    let (status, body) = get(server.address(), "/readyz");
    assert_eq!((status, &body["ready"]), (200, &Value::Bool(true)));

    readiness.set_unmet(Condition::BrokerConsumer, "the consumer was cancelled");
    let (status, body) = get(server.address(), "/readyz");
    assert_eq!(status, 503);
    let consumer = body["conditions"].as_array().unwrap().iter().find(|c| c["name"] == "broker-consumer").unwrap();
    assert_eq!((&consumer["met"], &consumer["reason"]), (&false.into(), &"the consumer was cancelled".into()));

    readiness.set_met(Condition::BrokerConsumer);
    drain.begin();
    let (status, body) = get(server.address(), "/readyz");
    assert_eq!((status, &body["conditions"][4]["name"]), (503, &"not-draining".into()));
    assert_eq!(body["conditions"][4]["met"], false);
}

#[test]
fn healthz_follows_the_event_loop_and_not_the_dependencies() {
    let (server, heartbeat) = server(&Readiness::new(&Drain::new(PATIENCE)), Duration::from_millis(200));
    let until = |expected: u16| {
        let began = Instant::now();
        while get(server.address(), "/healthz").0 != expected {
            assert!(began.elapsed() < PATIENCE, "/healthz never became {expected}");
        }
    };
    until(503);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(heartbeat.run());
    until(200);
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    runtime.spawn(async move {
        let _ = blocked.recv();
    });
    until(503);
    release.send(()).unwrap();
    until(200);
}

#[test]
fn version_tells_name_and_version_and_an_address_in_use_is_named() {
    let readiness = Readiness::new(&Drain::new(PATIENCE));
    let (server, heartbeat) = server(&readiness, PATIENCE);
    let (status, body) = get(server.address(), "/version");
    assert_eq!((status, &body["name"], &body["version"]), (200, &"slipway-worker".into(), &"0.1.0".into()));
    let error = AdminServer::start(server.address(), readiness, heartbeat).unwrap_err();
    assert!(error.to_string().contains("SLIPWAY_ADMIN_ADDR"), "{error:#}");
}

#[tokio::test]
async fn a_dependency_is_waited_for_until_it_is_there_or_the_drain_begins() {
    let drain = Drain::new(Duration::from_secs(1));
    let soon = Duration::from_millis(2);
    let policy = slipway_deploy::backoff::RetryPolicy {
        initial: soon,
        max: soon,
        ..slipway_deploy::backoff::RetryPolicy::RECONNECT
    };
    let mut tries = 0;
    let connect = || {
        tries += 1;
        let there = tries == 50;
        async move { if there { Ok("connected") } else { Err(anyhow::anyhow!("refused")) } }
    };
    assert_eq!(wait_for("database", policy, &drain, connect).await, Some("connected"));
    let mut refused = 0;
    let never = || {
        refused += 1;
        if refused == 50 {
            drain.begin();
        }
        async { Err::<(), _>(anyhow::anyhow!("refused")) }
    };
    assert_eq!(wait_for("broker", policy, &drain, never).await, None);
    assert_eq!(refused, 50);
}

/// A process whose standard error is read line by line; killed when dropped.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on to the line that holds `text`; a process that ends without it fails the test.
    fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        for line in self.lines.by_ref().map_while(Result::ok) {
            if line.contains(text) {
                return line;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("never said {text:?}, but:\n{seen}");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the process didn't end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The real worker, with a database and a broker that refuse connections.
fn worker(folder: &std::path::Path, format: &str) -> Process {
    let file = |name: &str, content: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_slipway-worker"));
    command
        .env_clear()
        .env("SLIPWAY_AMQP_URL", "amqp://worker:hidden-word@127.0.0.1:1/")
        .env("SLIPWAY_DATABASE_URL", "postgresql://worker:hidden-word@127.0.0.1:1/slipway")
        .env("SLIPWAY_ADMIN_ADDR", "127.0.0.1:0")
        .env("SLIPWAY_LOG_FORMAT", format)
        .env("SLIPWAY_SSH_KEY_FILE", file("ssh", DeployKey::generate("test").unwrap().private.expose_secret()))
        .env("SLIPWAY_GITHUB_TOKEN_FILE", file("token", "hidden-word"))
        .env("SLIPWAY_DIGEST_KEY_FILE", file("digest", &"hidden-word".repeat(3)));
    Process::start(&mut command)
}

#[test]
fn an_absent_database_is_waited_for_and_sigterm_ends_the_worker_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = worker(folder.path(), "json");
    let line: Value = serde_json::from_str(&worker.until("admin server listening")).unwrap();
    let address: SocketAddr = line["address"].as_str().unwrap().parse().unwrap();
    let line: Value = serde_json::from_str(&worker.until("waiting for the database")).unwrap();
    assert!(line["error"].as_str().unwrap().contains("refused") && line["retry_in_ms"].is_u64(), "{line}");
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(get(address, "/readyz").0, 503);
    worker.signal(Signal::TERM);
    worker.until("draining");
    worker.until("stopped");
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn what_the_worker_logs_holds_no_password_and_no_colours_where_there_is_no_terminal() {
    for format in ["json", "text"] {
        let folder = tempfile::tempdir().unwrap();
        let mut worker = worker(folder.path(), format);
        let first = worker.until("starting");
        worker.signal(Signal::INT);
        let rest = worker.lines.by_ref().map_while(Result::ok);
        for line in std::iter::once(first).chain(rest) {
            assert!(!line.contains("hidden-word") && !line.contains('\u{1b}'), "{line:?}");
        }
        assert_eq!(worker.end().code(), Some(0));
    }
}

#[test]
fn a_second_signal_exits_at_once_though_the_event_loop_is_stuck() {
    let mut subject = Process::start(Command::new(std::env::current_exe().unwrap()).args([
        "--ignored",
        "--exact",
        "--nocapture",
        "admin::subject_that_never_ends_its_drain",
    ]));
    subject.until("subject is up");
    subject.signal(Signal::TERM);
    subject.until("subject is stuck");
    subject.signal(Signal::INT);
    assert_eq!(subject.end().code(), Some(1));
}

#[test]
#[ignore = "the subject of a_second_signal_exits_at_once, which runs it as a process of its own"]
fn subject_that_never_ends_its_drain() {
    let say = |line: &str| writeln!(std::io::stderr(), "{line}").unwrap();
    let drain = Drain::new(Duration::from_secs(3600));
    drain_on_signals(drain.clone()).unwrap();
    say("subject is up");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        drain.token().cancelled().await;
        say("subject is stuck");
        // On purpose: an event loop that no longer turns.
        std::thread::sleep(Duration::from_secs(60));
    });
}
