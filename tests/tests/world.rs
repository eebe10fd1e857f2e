//! Whether the test world itself is what the scenarios take it for. No scenario of Slipway's is here.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipway_tests::world::{Generation, Image, Module, Sample, Variant, World, WorldOptions};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

fn world(targets: u8) -> World {
    World::start(WorldOptions {
        targets,
        ..WorldOptions::default()
    })
    .unwrap()
}

/// The status code of a GET from the workers' place in the world, or curl's complaint.
fn get(world: &World, url: &str) -> String {
    let output = world
        .command("curl")
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "5",
            "--write-out",
            " %{http_code}",
            url,
        ])
        .arg("--cacert")
        .arg(world.ca_pem())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What sshd at `address` says first, to one in `world`; empty when nobody answers within a second.
fn greeting_of(address: Ipv4Addr, world: &World) -> String {
    let hear = async {
        let mut line = [0; 64];
        let mut stream = TcpStream::connect((address, 22)).await?;
        let count = stream.read(&mut line).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&line[..count]).into_owned())
    };
    let heard = world
        .block_on(async { timeout(Duration::from_secs(1), hear).await })
        .unwrap();
    heard.map(Result::unwrap_or_default).unwrap_or_default()
}

fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> Result<()>) {
    let deadline = Instant::now() + limit;
    while let Err(error) = check() {
        assert!(Instant::now() < deadline, "{what}: {error:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The command lines of the machine's processes that name `path` in an argument.
fn processes_naming(path: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap();
    let lines =
        entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
    lines
        .filter(|line| line.contains(path))
        .map(|line| line.replace('\0', " "))
        .collect()
}

#[test]
fn a_world_starts_and_every_part_of_it_answers() {
    let world = World::start(WorldOptions {
        targets: 1,
        broker: true,
        database: true,
    })
    .unwrap();
    let docker = world
        .target(0)
        .sh("docker version --format '{{.Server.Version}}'; docker compose version --short")
        .unwrap();
    assert!(docker.lines().count() == 2, "{docker}");
    assert!(
        get(
            &world,
            "https://registry-1.docker.io/v2/library/redis/tags/list"
        )
        .ends_with(" 200")
    );
    assert!(
        get(&world, "https://ghcr.io/v2/").ends_with(" 401"),
        "ghcr.io wants a login"
    );

    let rows = world.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(world.database_url(), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        client
            .query_one("select 40 + 2", &[])
            .await
            .unwrap()
            .get::<_, i32>(0)
    });
    assert_eq!(rows.unwrap(), 42);
    let queue = world.block_on(async {
        let connection =
            lapin::Connection::connect(world.amqp_url(), lapin::ConnectionProperties::default())
                .await
                .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .queue_declare("hello".into(), Default::default(), Default::default())
            .await
            .unwrap()
            .name()
            .to_string()
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
    assert_eq!(
        greeting_of(address, &other),
        "",
        "the other world has no target"
    );
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    assert!(
        !hosts.contains("ghcr.io"),
        "the machine's own names are as before"
    );
}

/// What `leaves_nothing_behind` starts and kills: this test binary again, with a world, until it is killed.
#[test]
fn a_world_that_is_held_until_killed() {
    let Ok(folder) = std::env::var("HOLD_A_WORLD_IN") else {
        return;
    };
    let world = World::start(WorldOptions {
        targets: 1,
        database: true,
        broker: false,
    })
    .unwrap();
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
        .args(["--exact", "a_world_that_is_held_until_killed"])
        .env("HOLD_A_WORLD_IN", folder.path())
        .env("SLIPWAY_WORLD_DIR", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the other test's world", Duration::from_secs(90), || {
        ensure!(ready.exists(), "not ready");
        Ok(())
    });
    let held = fs::read_to_string(&ready).unwrap();
    assert!(!processes_naming(&held).is_empty());

    holding.kill().unwrap();
    holding.wait().unwrap();
    eventually("the end of its world", Duration::from_secs(10), || {
        ensure!(
            processes_naming(&held).is_empty(),
            "{:?}",
            processes_naming(&held)
        );
        ensure!(
            !fs::read_to_string("/proc/self/mountinfo")?.contains(&held),
            "a mount is left"
        );
        Ok(())
    });
}

#[test]
fn a_dropped_world_leaves_no_process_no_mount_and_no_file_behind() {
    let world = World::start(WorldOptions {
        targets: 1,
        database: true,
        broker: false,
    })
    .unwrap();
    let folder = world.folder().to_str().unwrap().to_owned();
    world
        .target(0)
        .sh("docker run --rm --detach redis:7-alpine")
        .unwrap();
    assert!(!processes_naming(&folder).is_empty());
    drop(world);
    assert_eq!(processes_naming(&folder), Vec::<String>::new());
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(&folder)
    );
    assert!(!fs::exists(&folder).unwrap(), "its folder is gone");
    let name = folder.rsplit('/').next().unwrap();
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap() {
        assert!(
            !tree.unwrap().path().join(name).exists(),
            "its control groups are gone"
        );
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
    assert_eq!(
        fs::read_to_string(target.root().unwrap().join("root/file")).unwrap(),
        "kept\n"
    );

    target.cut().unwrap();
    assert!(greeting_of(target.ip(), &world).is_empty());
    assert_eq!(
        target.sh("cat /root/file").unwrap(),
        "kept\n",
        "it lives on"
    );
    target.heal().unwrap();
    eventually("SSH after the cut", Duration::from_secs(10), || {
        ensure!(
            greeting_of(target.ip(), &world).starts_with("SSH-2.0"),
            "no answer"
        );
        Ok(())
    });
}

#[test]
fn workers_log_in_by_ssh_with_the_pinned_host_key_as_root_or_with_sudo() {
    let world = world(1);
    let target = world.target(0);
    target.add_user("deployer", &["sudo"]).unwrap();
    let known = world.folder().join("known_hosts");
    fs::write(&known, format!("{} {}\n", target.ip(), target.host_key())).unwrap();
    for (user, command) in [("root", "id -u"), ("deployer", "sudo id -u")] {
        let output = world
            .command("ssh")
            .args([
                "-F",
                "none",
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=yes",
                "-o",
            ])
            .arg(format!("UserKnownHostsFile={}", known.display()))
            .arg("-i")
            .arg(world.ssh_key())
            .args([&format!("{user}@{}", target.ip()), command])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "0\n",
            "{user}: {output:?}"
        );
    }
}

#[test]
fn killed_services_come_back_with_their_data() {
    let world = World::start(WorldOptions {
        targets: 0,
        broker: true,
        database: true,
    })
    .unwrap();
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
        world
            .block_on(lapin::Connection::connect(
                world.amqp_url(),
                lapin::ConnectionProperties::default(),
            ))
            .unwrap()
    };
    let broker = world.broker().unwrap();
    connect().unwrap();
    broker.kill().unwrap();
    assert!(connect().is_err());
    broker.start().unwrap();
    connect().unwrap();
    broker.stop().unwrap();
    assert!(connect().is_err());
}

/// Puts a project on a server by hand, as its README would tell: what Slipway is to do by itself.
fn deploy_by_hand(world: &World, sample: &Sample, env: &str) -> Result<()> {
    let target = world.target(0);
    let commit = world.publish(sample)?;
    let project = format!("/opt/services/{}", sample.snake_name());
    let host = target.root()?.join(project.trim_start_matches('/'));
    fs::create_dir_all(&host)?;
    // git itself takes a path through /proc/…/root for one of this machine.
    let mut archive = Command::new("git")
        .arg("--git-dir")
        .arg(world.git().repository(sample))
        .args(["archive", &commit.sha])
        .stdout(Stdio::piped())
        .spawn()?;
    let files = archive.stdout.take().context("stdout is piped")?;
    let unpacked = target
        .command("tar")?
        .args(["-x", "-C", &project])
        .stdin(files)
        .status()?;
    ensure!(
        archive.wait()?.success() && unpacked.success(),
        "the commit's files"
    );
    let image = |module| format!("ghcr.io/{}:{}", sample.image(module), commit.tag());
    let images = format!(
        "BACKEND_IMAGE={}\nTG_BOT_IMAGE={}\n",
        image(Module::Backend),
        image(Module::TgBot)
    );
    fs::write(
        host.join(".env"),
        format!(
            "{env}{images}APP_NAME=shop\nREDIS_URL=redis://redis:6379\nTELEGRAM_BOT_TOKEN=1:a\n"
        ),
    )?;
    if sample.generation() == Generation::One {
        fs::write(host.join("infra/.env.prod"), "")?;
    }
    let login = world.registry_credential();
    target.sh(&format!(
        "cd {project}
         docker login ghcr.io --username {} --password-stdin <<<'{}'
         compose='docker compose --env-file .env -p {} -f infra/compose.base.yml -f infra/compose.prod.yml --profile tg'
         $compose pull --quiet
         $compose up --detach --no-build --remove-orphans",
        login.username,
        login.password,
        sample.snake_name(),
    ))?;
    let url = format!(
        "http://{}:{}/health",
        target.ip(),
        if sample.generation() == Generation::One {
            8000
        } else {
            8100
        }
    );
    eventually(&url, Duration::from_secs(60), || {
        let answer = get(world, &url);
        ensure!(
            answer.ends_with(" 200") && answer.contains(&commit.sha),
            "{answer}"
        );
        Ok(())
    });
    Ok(())
}

#[test]
fn samples_of_both_generations_deploy_by_hand_and_answer() {
    let world = world(1);
    let target = world.target(0);
    let postgres = "POSTGRES_USER=app\nPOSTGRES_PASSWORD=secret\nPOSTGRES_HOST=db\nPOSTGRES_PORT=5432\nPOSTGRES_DB=app\n";
    let one = Sample::new(Generation::One, "Acme-Org", "My.First-Shop");
    deploy_by_hand(&world, &one, &format!("{postgres}BACKEND_REPLICAS=1\n")).unwrap();
    let two = Sample::new(Generation::Two, "Acme-Org", "my-second-shop");
    deploy_by_hand(&world, &two, "BACKEND_PORT=8100\n").unwrap();
    for project in ["my_first_shop", "my_second_shop"] {
        let state = format!(
            "docker inspect --format '{{{{.State.Running}}}} {{{{.RestartCount}}}}' {project}-tg_bot-1"
        );
        assert_eq!(target.sh(&state).unwrap(), "true 0\n", "{project}");
    }
    assert!(
        target
            .processes()
            .unwrap()
            .iter()
            .any(|argv| argv.iter().any(|argument| argument == "/app/backend"))
    );

    let began = Instant::now();
    target
        .sh("docker stop my_second_shop-backend-1 my_second_shop-tg_bot-1 my_second_shop-redis-1")
        .unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "stops are fast: {:?}",
        began.elapsed()
    );
}

#[test]
fn an_image_variant_fails_the_way_its_name_says() {
    let world = world(1);
    let target = world.target(0);
    let pull =
        target.sh("docker pull redis:7-alpine && docker pull ghcr.io/acme/shop-backend:latest");
    assert!(
        pull.unwrap_err()
            .to_string()
            .contains("no basic auth credentials"),
        "ghcr.io is private"
    );

    let variants = [
        Variant::CrashLoop,
        Variant::Unhealthy,
        Variant::FailingMigration,
        Variant::NotFound,
    ];
    for (port, variant) in (9000..).zip(variants) {
        let digest = world
            .docker_hub()
            .put(
                "acme/shop-backend",
                "latest",
                &Image::module(Module::Backend, variant, None),
            )
            .unwrap();
        target.sh(&format!("docker run --detach --name v{port} --publish {port}:8000 acme/shop-backend@{digest}")).unwrap();
    }
    let status = |port: u16| get(&world, &format!("http://{}:{port}/health", target.ip()));
    eventually("503", Duration::from_secs(10), || {
        ensure!(status(9001).ends_with(" 503"), "not yet");
        Ok(())
    });
    eventually("404", Duration::from_secs(10), || {
        ensure!(status(9003).ends_with(" 404"), "not yet");
        Ok(())
    });
    for name in ["v9000", "v9002"] {
        assert_eq!(
            target.sh(&format!("docker wait {name}")).unwrap(),
            "1\n",
            "{name}"
        );
    }
    assert!(
        target
            .sh("docker logs v9002 2>&1")
            .unwrap()
            .contains("alembic")
    );
}
