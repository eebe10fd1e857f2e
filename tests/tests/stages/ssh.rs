//! The SSH session against a real sshd: exits, lost connections, cancellation, floods of output, and what others on
//! the server can see.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use slipway_deploy::remote::script::Script;
use slipway_deploy::remote::ssh::{CommandOutput, ExecOptions, RemoteExit, Session};
use slipway_deploy::secrets::redact::Redactor;
use slipway_deploy::{HostKeyPolicy, StageError, Target};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName};
use slipway_tests::world::{World, WorldOptions};
use tokio_util::sync::CancellationToken;

fn world() -> World {
    World::start(WorldOptions { targets: 1, ..WorldOptions::default() }).unwrap()
}

fn target(world: &World) -> Target {
    let server = world.target(0);
    Target {
        handle: ServerHandle::new("target-0").unwrap(),
        address: Host::new(server.ip().to_string()).unwrap(),
        ssh_port: Port::new(22).unwrap(),
        ssh_user: UserName::new("root").unwrap(),
        host_key: HostKeyPolicy::Pinned(HostKey::new(server.host_key()).unwrap()),
        ssh_key: SecretString::from(std::fs::read_to_string(world.ssh_key()).unwrap()),
        front_door: None,
    }
}

/// A cable to `server` that breaks once `limit` bytes have gone that way; gives its port and how many went.
async fn cable(server: std::net::SocketAddr, limit: usize) -> (u16, Arc<AtomicUsize>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, gone) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = gone.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            counted.store(0, Ordering::SeqCst);
            let counted = counted.clone();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) =
                    tokio::net::TcpStream::connect(server).await.unwrap().into_split();
                let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
                let mut buffer = [0; 64];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    let before = counted.fetch_add(read, Ordering::SeqCst);
                    let left = limit.saturating_sub(before).min(read);
                    if to_server.write_all(&buffer[..left]).await.is_err() || left < read {
                        break;
                    }
                }
                // Both halves of both connections are gone with this.
                back.abort();
            });
        }
    });
    (port, gone)
}

#[test]
fn a_connection_that_breaks_while_logging_in_is_no_refused_key() {
    let world = world();
    let target = target(&world);
    let server = std::net::SocketAddr::from((world.target(0).ip(), 22));
    world
        .block_on(async {
            let key = world.folder().join("stranger");
            let made =
                std::process::Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(&key).status();
            assert!(made.unwrap().success());
            let stranger = Target { ssh_key: std::fs::read_to_string(key).unwrap().into(), ..target.clone() };
            let error = Session::connect(&stranger, &|_| {}).await.map(drop).unwrap_err();
            assert_eq!(error.code, ErrorCode::SshKeyRefused, "{error}");
            let through = |port| Target {
                address: Host::new("127.0.0.1").unwrap(),
                ssh_port: Port::new(port).unwrap(),
                ..target.clone()
            };
            let (port, gone) = cable(server, usize::MAX).await;
            drop(Session::connect(&through(port), &|_| {}).await.unwrap());
            let whole = gone.load(Ordering::SeqCst);
            // The login itself is the end of it.
            let mut broken = 0;
            for limit in (whole - 700..whole).step_by(70) {
                let (port, _) = cable(server, limit).await;
                if let Err(error) = Session::connect(&through(port), &|_| {}).await {
                    assert_eq!(error.code, ErrorCode::ServerUnreachable, "{limit} of {whole}: {error}");
                    broken += 1;
                }
            }
            assert!(broken > 5, "{broken} logins were broken off");
        })
        .unwrap();
}

/// Runs one script, hearing its lines.
async fn exec(
    session: &mut Session,
    script: &Script,
    deadline: Duration,
    cancel: &CancellationToken,
    on_line: &(dyn Fn(&str) + Sync),
) -> Result<CommandOutput, StageError> {
    session.exec(script, &ExecOptions { deadline, cancel, redactor: &Redactor::default(), on_line }).await
}

/// Waits until some process on the server has an argument with any of `words` in it, or none has.
fn until_some(world: &World, some: bool, words: &[&str], what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_one = |argv: &Vec<String>| argv.iter().any(|argument| words.iter().any(|word| argument.contains(word)));
    while world.target(0).processes().unwrap().iter().any(is_one) != some {
        assert!(Instant::now() < deadline, "{what}: {:?}", world.target(0).processes());
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn every_end_of_a_command_is_told_apart() {
    let world = world();
    let target = target(&world);
    world
        .block_on(async {
            let never = CancellationToken::new();
            let mut session = Session::connect(&target, &|_| {}).await.unwrap();
            let lines = Mutex::new(Vec::new());
            let script = Script::new("test", &["echo out; echo err >&2; tell key 'some value'; exit 42\n"]);
            let hear = |line: &str| lines.lock().unwrap().push(line.to_owned());
            let done = exec(&mut session, &script, MINUTE, &never, &hear).await.unwrap();
            assert_eq!((done.exit, done.output.value("key")), (RemoteExit::Exited(42), Some("some value")));
            let mut heard = lines.into_inner().unwrap();
            heard.sort();
            assert_eq!(heard, ["err", "out"]);
            assert_eq!(session.round_trips(), 9, "handshake, first channel, one exec");

            for kill in [
                "kill -s TERM -- -$$; sleep 60\n",
                "kill -s KILL -- -$$; sleep 60\n",
                "kill -s INT -- -$$; sleep 60\n",
                "kill -s KILL $$\n",
                "kill -s TERM $PPID; sleep 60\n",
                "sh -c 'kill -s KILL $$'\n",
            ] {
                let done = exec(&mut session, &Script::new("killed", &[kill]), MINUTE, &never, &|_| {}).await.unwrap();
                assert_eq!(done.exit, RemoteExit::Signalled, "{kill}");
            }

            // Compose's own status for files that it can't read is setsid's for TERM.
            let done = exec(&mut session, &Script::new("own", &["exit 15\n"]), MINUTE, &never, &|_| {}).await.unwrap();
            assert_eq!(done.exit, RemoteExit::Exited(15));

            let slow = Script::new("slow", &["sleep 60\n"]);
            let began = Instant::now();
            let error = exec(&mut session, &slow, Duration::from_secs(1), &never, &|_| {}).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::DeadlineExceeded);
            assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());

            let cut = Script::new("cut", &["kill -9 $(ps -o ppid= -p $PPID)\nsleep 60\n"]);
            let done = exec(&mut session, &cut, MINUTE, &never, &|_| {}).await.unwrap();
            assert_eq!(done.exit, RemoteExit::Lost);
            // The channel for it may have been opened before the end.
            match exec(&mut session, &slow, MINUTE, &never, &|_| {}).await {
                Ok(done) => assert_eq!(done.exit, RemoteExit::Lost),
                Err(error) => assert_eq!(error.code, ErrorCode::ServerConnectionLost),
            }
        })
        .unwrap();
}

#[test]
fn scripts_find_their_shells_begun_and_do_without_where_the_server_refuses() {
    let world = world();
    let (target, server) = (target(&world), world.target(0));
    let script = Script::new("test", &["tell one yes\n"]);
    let runs = async |session: &mut Session, script: &Script| {
        let done = exec(session, script, MINUTE, &CancellationToken::new(), &|_| {}).await.unwrap();
        assert_eq!((done.exit, done.output.value("one")), (RemoteExit::Exited(0), Some("yes")));
    };
    let all = async {
        let mut session = Session::connect(&target, &|_| {}).await.unwrap();
        runs(&mut session, &script).await;
        runs(&mut session, &script).await;
        assert_eq!(session.round_trips(), 10, "nine for the first one, and one for the second");
        until_some(&world, true, &["base64 -d"], "a third one is begun");
        server.sh("pkill -9 -f 'base64 -[d]'").unwrap();
        until_some(&world, false, &["base64 -d"], "it's killed");
        // Its end is heard of over the connection, where nothing else tells when.
        tokio::time::sleep(Duration::from_secs(1)).await;
        runs(&mut session, &script.clone().last()).await;
        assert_eq!(session.round_trips(), 12, "it was begun anew");
        until_some(&world, false, &["base64 -d"], "nothing follows the last one");
        session.close().await;
        let few = "echo MaxSessions 1 >/etc/ssh/sshd_config.d/few.conf; kill -HUP $(cat /run/sshd.pid); sleep 1";
        server.sh(few).unwrap();
        let mut session = Session::connect(&target, &|_| {}).await.unwrap();
        runs(&mut session, &script).await;
        runs(&mut session, &script).await;
    };
    world.block_on(all).unwrap();
}

#[test]
fn a_cancel_ends_the_whole_process_group() {
    let world = world();
    let target = target(&world);
    world
        .block_on(async {
            let mut session = Session::connect(&target, &|_| {}).await.unwrap();
            let cancel = CancellationToken::new();
            let stop = cancel.clone();
            // One child that ends at once, one that wants to be killed.
            let text = "sh -c 'trap \"\" TERM; echo up; sleep 4711; sleep 4711' & sleep 4712\n";
            let hear = move |_: &str| stop.cancel();
            let script = Script::new("test", &[text]);
            let error = exec(&mut session, &script, MINUTE, &cancel, &hear).await.unwrap_err();
            assert_eq!(error.code, ErrorCode::DeadlineExceeded);
        })
        .unwrap();
    until_some(&world, false, &["4711", "4712"], "both end");
}

#[test]
fn a_worker_that_vanishes_leaves_nothing_running() {
    let world = world();
    let target = target(&world);
    world
        .block_on(async {
            let up = Arc::new(tokio::sync::Notify::new());
            let heard = up.clone();
            let attempt = tokio::spawn(async move {
                let mut session = Session::connect(&target, &|_| {}).await.unwrap();
                let script = Script::new("test", &["echo up; sleep 4713\n"]);
                let hear = move |_: &str| heard.notify_one();
                let _ = exec(&mut session, &script, MINUTE, &CancellationToken::new(), &hear).await;
            });
            up.notified().await;
            attempt.abort();
        })
        .unwrap();
    until_some(&world, false, &["4713"], "it ends");
}

#[test]
fn a_flood_of_output_is_heard_in_bounded_memory() {
    let world = world();
    let target = target(&world);
    world
        .block_on(async {
            let mut session = Session::connect(&target, &|_| {}).await.unwrap();
            let script = Script::new("test", &["yes 0123456789abcdef | head -c 50000000; tell end reached\n"]);
            let before = memory_kb();
            let done = exec(&mut session, &script, MINUTE, &CancellationToken::new(), &|_| {}).await.unwrap();
            assert_eq!(done.output.value("end"), Some("reached"));
            assert_eq!(done.output.tail().len(), 40);
            assert!(memory_kb() - before < 30_000, "{} kB more", memory_kb() - before);
            // What is for us can't be cut off: it's refused, and whoever sends it is ended.
            let endless = "long=$(head -c 2000000 /dev/zero | base64 -w0); while :; do tell endless \"$long\"; done\n";
            let script = Script::new("test", &[endless]);
            let done = exec(&mut session, &script, MINUTE, &CancellationToken::new(), &|_| {}).await;
            assert_eq!(done.unwrap_err().code, ErrorCode::OutputTooLarge);
            assert!(memory_kb() - before < 90_000, "{} kB more", memory_kb() - before);
        })
        .unwrap();
}

fn memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn secrets_show_in_no_argument_and_no_environment_on_the_server() {
    let world = world();
    let target = target(&world);
    let secret = "hunter2-hunter2-hunter2";
    world
        .block_on(async {
            let mut session = Session::connect(&target, &|_| {}).await.unwrap();
            let text = "value=$(printf %s \"$token\" | base64 -d)\n\
                cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' >/tmp/seen\n\
                tell length \"${#value}\"\n";
            let script = Script::new("test", &[text]).bytes("token", secret.as_bytes());
            let done = exec(&mut session, &script, MINUTE, &CancellationToken::new(), &|_| {}).await.unwrap();
            assert_eq!(done.output.value("length"), Some("23"));
        })
        .unwrap();
    let seen = world.target(0).sh("cat /tmp/seen").unwrap();
    assert!(seen.contains("setsid"), "the script sees its own launcher");
    assert!(!seen.contains("hunter2") && !seen.contains("aHVudGVy"), "{seen}");
}
