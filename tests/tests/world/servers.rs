//! Whether the test world itself is what the scenarios take it for. No scenario of Slipway's is here.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use slipway_tests::world::{CLUSTER, World, WorldOptions, eventually};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn world(targets: u8) -> World {
    World::start(WorldOptions { targets, ..WorldOptions::default() }).unwrap()
}

/// What sshd at `address` says first, to one in `world`; empty when nobody answers within a second.
fn greeting_of(address: Ipv4Addr, world: &World) -> String {
    let hear = async {
        let mut line = [0; 64];
        let mut stream = TcpStream::connect((address, 22)).await?;
        let count = stream.read(&mut line).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&line[..count]).into_owned())
    };
    let heard = world.block_on(async { timeout(Duration::from_secs(1), hear).await }).unwrap();
    heard.map(Result::unwrap_or_default).unwrap_or_default()
}

/// The command lines of the machine's processes that name `path` in an argument.
fn processes_naming(path: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap();
    let lines = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(path)).map(|line| line.replace('\0', " ")).collect()
}

#[test]
fn a_world_starts_and_every_part_of_it_answers() {
    let world = World::start(WorldOptions { targets: 1, nodes: 1, database: true }).unwrap();
    let docker =
        world.target(0).sh("docker version --format '{{.Server.Version}}'; docker compose version --short").unwrap();
    assert!(docker.lines().count() == 2, "{docker}");
    let tags = world.get("https://registry-1.docker.io/v2/library/redis/tags/list").unwrap();
    assert_eq!(tags.status, 200, "{tags:?}");
    assert_eq!(world.get("https://ghcr.io/v2/").unwrap().status, 401, "ghcr.io wants a login");

    let rows = world.block_on(async {
        let (client, connection) = tokio_postgres::connect(world.database_url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one("select 40 + 2", &[]).await.unwrap().get::<_, i32>(0)
    });
    assert_eq!(rows.unwrap(), 42);
    let queue = world.block_on(async {
        let connection =
            lapin::Connection::connect(world.amqp_url(), lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_declare("hello".into(), Default::default(), Default::default()).await.unwrap().name().to_string()
    });
    assert_eq!(queue.unwrap(), "hello");
}

#[test]
fn two_worlds_side_by_side_do_not_see_each_other() {
    let (one, other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| world(1));
        (one.join().unwrap(), world(0))
    });
    let address = one.target(0).ip();
    assert!(greeting_of(address, &one).starts_with("SSH-2.0"));
    assert_eq!(greeting_of(address, &other), "", "the other world has no target");
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    assert!(!hosts.contains("ghcr.io"), "the machine's own names are as before");
}

/// What the next test starts and kills: this test binary again, with a world, until it is killed.
#[test]
fn a_world_that_is_held_until_killed() {
    let Ok(folder) = std::env::var("HOLD_A_WORLD_IN") else {
        return;
    };
    let world = World::start(WorldOptions { targets: 1, database: true, ..WorldOptions::default() }).unwrap();
    fs::write(format!("{folder}/ready"), world.folder().to_str().unwrap()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_test_leaves_no_process_and_no_mount_behind() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let mut holding = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::a_world_that_is_held_until_killed"])
        .env("HOLD_A_WORLD_IN", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the other test's world", Duration::from_secs(90), || {
        ensure!(ready.exists(), "not ready");
        Ok(())
    })
    .unwrap();
    let held = fs::read_to_string(&ready).unwrap();
    assert!(!processes_naming(&held).is_empty());

    holding.kill().unwrap();
    holding.wait().unwrap();
    eventually("the end of its world", Duration::from_secs(10), || {
        ensure!(processes_naming(&held).is_empty(), "{:?}", processes_naming(&held));
        ensure!(!fs::read_to_string("/proc/self/mountinfo")?.contains(&held), "a mount is left");
        Ok(())
    })
    .unwrap();

    // Files and control groups need somebody to remove them: the next world does.
    let _next = world(0);
    let name = held.rsplit('/').next().unwrap();
    eventually("the removal of its files", Duration::from_secs(10), || {
        ensure!(!fs::exists(&held)?, "its folder is left");
        for tree in fs::read_dir("/sys/fs/cgroup")? {
            ensure!(!tree?.path().join(name).exists(), "a control group is left");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_dropped_world_leaves_no_process_no_mount_and_no_file_behind() {
    let world = World::start(WorldOptions { targets: 1, database: true, ..WorldOptions::default() }).unwrap();
    let folder = world.folder().to_str().unwrap().to_owned();
    world.target(0).sh("docker run --rm --detach redis:7-alpine").unwrap();
    assert!(!processes_naming(&folder).is_empty());
    drop(world);
    assert_eq!(processes_naming(&folder), Vec::<String>::new());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&folder));
    assert!(!fs::exists(&folder).unwrap(), "its folder is gone");
    let name = folder.rsplit('/').next().unwrap();
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap() {
        assert!(!tree.unwrap().path().join(name).exists(), "its control groups are gone");
    }
}

#[test]
fn a_target_keeps_its_disk_over_a_reboot_and_hangs_while_its_cable_is_cut() {
    let world = world(1);
    let target = world.target(0);
    target.sh("echo kept > /root/file; docker volume create kept; ufw allow 22/tcp; ufw --force enable").unwrap();
    target.reboot().unwrap();
    assert_eq!(target.sh("cat /root/file").unwrap(), "kept\n");
    assert_eq!(target.sh("docker volume ls --quiet").unwrap(), "kept\n");
    assert!(target.sh("ufw status").unwrap().contains("Status: active"));
    assert_eq!(fs::read_to_string(target.root().unwrap().join("root/file")).unwrap(), "kept\n");

    target.cut().unwrap();
    assert!(greeting_of(target.ip(), &world).is_empty());
    assert_eq!(target.sh("cat /root/file").unwrap(), "kept\n", "it lives on");
    target.heal().unwrap();
    eventually("SSH after the cut", Duration::from_secs(10), || {
        ensure!(greeting_of(target.ip(), &world).starts_with("SSH-2.0"), "no answer");
        Ok(())
    })
    .unwrap();
}

#[test]
fn workers_log_in_by_ssh_with_the_pinned_host_key_as_root_or_with_sudo() {
    let world = world(1);
    let target = world.target(0);
    target.add_user("deployer", &["sudo"]).unwrap();
    for (user, command) in [("root", "id -u"), ("deployer", "sudo id -u")] {
        let output = ssh(&world, user, command).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{user}: {output:?}");
    }
}

#[test]
fn what_is_sent_to_a_throttled_server_comes_slowly_until_it_is_released() {
    const BYTES: &str = "131072";
    let world = world(1);
    let sent = || {
        let begun = Instant::now();
        let mut zeros = Command::new("head").args(["-c", BYTES, "/dev/zero"]).stdout(Stdio::piped()).spawn().unwrap();
        let output = ssh(&world, "root", "wc -c").stdin(zeros.stdout.take().unwrap()).output().unwrap();
        assert!(zeros.wait().unwrap().success());
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), BYTES, "{output:?}");
        begun.elapsed()
    };
    world.target(0).throttle().unwrap();
    let slow = sent();
    world.target(0).release().unwrap();
    let fast = sent();
    assert!(slow > Duration::from_secs(5), "16 KiB a second, and a burst of as much: {slow:?}");
    assert!(fast < slow, "{fast:?} after {slow:?}");
}

/// A command on the first target, by the machine's own ssh with the workers' key and the pinned host key.
fn ssh(world: &World, user: &str, command: &str) -> Command {
    let target = world.target(0);
    let known = world.folder().join("known_hosts");
    fs::write(&known, format!("{} {}\n", target.ip(), target.host_key())).unwrap();
    let mut ssh = world.command("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .arg("-i")
        .arg(world.ssh_key())
        .args([&format!("{user}@{}", target.ip()), command]);
    ssh
}

#[test]
fn killed_services_come_back_with_their_data() {
    let world = World::start(WorldOptions { targets: 0, nodes: 1, database: true }).unwrap();
    let url = world.database_url();
    let ask = |sql: &'static str| {
        world.block_on(async move {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(sql).await
        })
    };
    ask("create table kept ()").unwrap().unwrap();
    let database = world.database().unwrap();
    database.kill().unwrap();
    assert!(ask("select 1").unwrap().is_err());
    database.start().unwrap();
    ask("select from kept").unwrap().unwrap();
    database.stop().unwrap();
    database.start().unwrap();

    let connect = || {
        world.block_on(lapin::Connection::connect(world.amqp_url(), lapin::ConnectionProperties::default())).unwrap()
    };
    let broker = world.broker().unwrap();
    connect().unwrap();
    broker.kill().unwrap();
    assert!(connect().is_err());
    broker.start().unwrap();
    connect().unwrap();
    broker.node(0).stop().unwrap();
    assert!(connect().is_err());
}

#[test]
fn a_frozen_service_leaves_connections_open_and_answers_nobody_until_it_goes_on() {
    const SHORT: Duration = Duration::from_secs(2);
    let world = World::start(WorldOptions { nodes: 1, database: true, ..WorldOptions::default() }).unwrap();
    let (broker, database) = (world.broker().unwrap(), world.database().unwrap());
    let dial = || lapin::Connection::connect(world.amqp_url(), lapin::ConnectionProperties::default());
    let played = world.block_on(async {
        let (client, connection) = tokio_postgres::connect(world.database_url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let connection = dial().await.unwrap();
        broker.pause().unwrap();
        database.pause().unwrap();
        assert!(timeout(SHORT, dial()).await.is_err(), "a new connection to the broker");
        assert!(timeout(SHORT, connection.create_channel()).await.is_err(), "an open one");
        let query = client.simple_query("select 1");
        tokio::pin!(query);
        assert!(timeout(SHORT, &mut query).await.is_err(), "a session of the database");
        broker.resume().unwrap();
        database.resume().unwrap();
        query.await.unwrap();
        dial().await.unwrap();
    });
    played.unwrap();
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "its result is for a person")]
fn how_long_a_world_takes_to_start() {
    let none = WorldOptions::default();
    let cases = [
        ("nothing", none),
        ("a database", WorldOptions { database: true, ..none }),
        ("a broker", WorldOptions { nodes: 1, ..none }),
        ("a cluster", WorldOptions { nodes: CLUSTER, ..none }),
        ("1 target", WorldOptions { targets: 1, ..none }),
        ("3 targets", WorldOptions { targets: 3, ..none }),
        ("1 target, broker, database", WorldOptions { targets: 1, nodes: 1, database: true }),
        ("3 targets, broker, database", WorldOptions { targets: 3, nodes: 1, database: true }),
    ];
    for (what, options) in cases {
        let began = Instant::now();
        let world = World::start(options).unwrap();
        let started = began.elapsed();
        drop(world);
        eprintln!("{what}: started in {started:.1?}, ended in {:.1?}", began.elapsed() - started);
    }
}
