//! Whether the test world itself is what the scenarios take it for. No scenario of Slipway's is here.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipway_tests::world::{Generation, Module, Sample, World, WorldOptions};

fn world(targets: u8) -> World {
    World::start(WorldOptions { targets, ..WorldOptions::default() }).unwrap()
}

/// The status code of a GET from the workers' place in the world, or curl's complaint.
fn get(world: &World, url: &str) -> String {
    let output = world
        .command("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "5", "--write-out", " %{http_code}", url])
        .arg("--cacert")
        .arg(world.ca_pem())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> Result<()>) {
    let deadline = Instant::now() + limit;
    while let Err(error) = check() {
        assert!(Instant::now() < deadline, "{what}: {error:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_world_starts_and_every_part_of_it_answers() {
    let world = World::start(WorldOptions { targets: 1, broker: true, database: true }).unwrap();
    let docker = world.target(0).sh("docker version --format '{{.Server.Version}}'; docker compose version --short").unwrap();
    assert!(docker.lines().count() == 2, "{docker}");
    assert!(get(&world, "https://registry-1.docker.io/v2/library/redis/tags/list").ends_with(" 200"));
    assert!(get(&world, "https://ghcr.io/v2/").ends_with(" 401"), "ghcr.io wants a login");

    let rows = world.block_on(async {
        let (client, connection) = tokio_postgres::connect(world.database_url(), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.query_one("select 40 + 2", &[]).await.unwrap().get::<_, i32>(0)
    });
    assert_eq!(rows.unwrap(), 42);
    let queue = world.block_on(async {
        let connection = lapin::Connection::connect(world.amqp_url(), lapin::ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_declare("hello".into(), Default::default(), Default::default()).await.unwrap().name().to_string()
    });
    assert_eq!(queue.unwrap(), "hello");
}
