//! Whether the world has what the servers' front door needs, and it behaves as the official image does.

use std::time::{Duration, Instant};

use anyhow::ensure;
use slipway_tests::world::{World, WorldOptions, eventually};

/// A page of its own, and one that only who trusts the world's authority can fetch.
const CADDYFILE: &str = "{\n admin off\n}\n:80 {\n respond /own yes\n reverse_proxy https://registry-1.docker.io {\n  header_up Host {upstream_hostport}\n }\n}\n";

#[test]
#[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
fn a_server_pulls_the_front_doors_image_and_runs_it_with_one_capability() {
    let world = World::start(WorldOptions { targets: 1, ..WorldOptions::default() }).unwrap();
    let (server, image) = (world.target(0), world.front_door_image());
    assert!(image.starts_with("docker.io/library/caddy:2.11.4-alpine@sha256:"), "{image}");
    let began = Instant::now();
    server.sh(&format!("docker pull --quiet {image}")).unwrap();
    eprintln!("the image of the front door is pulled in {:?}", began.elapsed());

    server.sh(&format!("mkdir -p /root/door; cat >/root/door/Caddyfile <<'END'\n{CADDYFILE}END")).unwrap();
    let run = |capabilities: &str| {
        server.sh(&format!(
            "docker run --network host --read-only --cap-drop ALL {capabilities} --volume \
             /root/door:/etc/caddy:ro {image}"
        ))
    };
    let refused = run("").unwrap_err().to_string();
    assert!(refused.contains("operation not permitted"), "as with the official image: {refused}");
    run("--detach --cap-add NET_BIND_SERVICE --security-opt no-new-privileges").unwrap();
    for (path, body) in [("/own", "yes"), ("/v2/library/caddy/tags/list", "2.11.4-alpine")] {
        eventually("an answer", Duration::from_secs(10), || {
            let answer = world.get(&format!("http://{}{path}", server.ip()))?;
            ensure!(answer.status == 200 && answer.body.contains(body), "{answer:?}");
            Ok(())
        })
        .unwrap();
    }
}
