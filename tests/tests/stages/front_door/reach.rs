//! What containers, and users of the server that aren't root, reach of the front door: what everybody does, its ports.

use slipway_protocol::{Action, Stage};
use slipway_tests::world::{Generation, Variant};

use crate::front_door::scene::{DOOR, DRAIN, DoorProject, PROVING};
use crate::pipeline::scene::{AttemptScene, PORT};

/// Each place that a container might try, with what came of it.
const TRY: &str = r#"
bot=$(docker ps -q --filter label=com.docker.compose.project=shop --filter label=com.docker.compose.service=tg_bot)
gateway=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}' "$bot")
try() {
    nsenter --net --target "$(docker inspect --format '{{.State.Pid}}' "$bot")" \
        timeout 3 bash -c ': <>"/dev/tcp/$0/$1"' "$2" "$3" 2>/dev/null && echo "$1 open" || echo "$1 closed"
}
read -r port a b <"$DOOR/slots/shop"
if [ -e "$DOOR/routes/shop/$a-$b.b" ]; then slot=$b; else slot=$a; fi
timeout 3 bash -c ': <>"/dev/tcp/127.0.0.1/$0"' "$slot" && echo 'slot, from the server: open'
try 'port, by the gateway:' "$gateway" "$port"
try 'slot, by the gateway:' "$gateway" "$slot"
try 'slot, by the address:' "$ADDRESS" "$slot"
try 'slot, by the loopback:' 127.0.0.1 "$slot"
"#;

/// What somebody reads who has a shell on the server, but isn't root.
const READ: &str = r#"
for file in etc/Caddyfile etc/sites/shop.caddy slots/shop compose/shop.yml; do
    test -e "$DOOR/$file"
    setpriv --reuid=nobody --regid=nogroup --clear-groups cat "$DOOR/$file" >/dev/null 2>&1 && echo "$file read" || echo "$file kept"
done
setpriv --reuid=nobody --regid=nogroup --clear-groups ls "$DOOR/data" "$DOOR/run" 2>/dev/null || echo 'data kept'
"#;

/// Somebody else's program takes the slot that the next release would have, or that the stopped one had.
const OCCUPY: &str = r#"
read -r port a b <"$DOOR/slots/shop"
if [ -e "$DOOR/routes/shop/$a-$b.b" ]; then serving=$b idle=$a; else serving=$a idle=$b; fi
if [ "$WHICH" = serving ]; then taken=$serving; else taken=$idle; fi
setsid python3 -m http.server "$taken" >/dev/null 2>&1 </dev/null &
until ss -Hltn | grep -q ":$taken "; do :; done
"#;

#[test]
fn containers_and_users_reach_the_doors_ports_and_nothing_behind_them() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let shop = DoorProject::new(&scene, Generation::Two, "shop", PORT);
    let commit = shop.publish(Variant::Healthy);
    shop.deploy(&commit);
    let server = shop.server();
    let tried = server.sh(&format!("DOOR={DOOR} ADDRESS={}\n{TRY}", server.ip())).unwrap();
    let expected = "slot, from the server: open\nport, by the gateway: open\nslot, by the gateway: closed\n\
                    slot, by the address: closed\nslot, by the loopback: closed\n";
    assert_eq!(tried, expected);
    let read = server.sh(&format!("DOOR={DOOR}\n{READ}")).unwrap();
    let expected = "etc/Caddyfile kept\netc/sites/shop.caddy kept\nslots/shop kept\ncompose/shop.yml read\ndata kept\n";
    assert_eq!(read, expected);

    server.sh(&format!("DOOR={DOOR} WHICH=idle\n{OCCUPY}")).unwrap();
    let next = shop.publish(Variant::Healthy);
    shop.deploy(&next);
    shop.is_whole(&next);
    shop.act(Action::Stop, &next, &[Stage::Compose]);
    server.sh(&format!("DOOR={DOOR} WHICH=serving\n{OCCUPY}")).unwrap();
    shop.act(Action::Start, &next, &[Stage::Compose, Stage::Verify]);
    shop.is_whole(&next);
}
