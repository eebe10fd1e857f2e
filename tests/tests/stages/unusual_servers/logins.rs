//! Logging in, and running a script: every case on one server, with an sshd of its own or a user of its own.

use std::time::Duration;

use slipway_deploy::remote::script::Script;
use slipway_deploy::remote::ssh::{ExecOptions, KeyAnswer, RemoteExit, Session};
use slipway_deploy::secrets::redact::Redactor;
use slipway_deploy::{HostKeyPolicy, StageError, Target};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName};
use slipway_tests::world::{World, WorldOptions};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The users and the daemons. What `.bashrc` and its like say is said for commands as well.
const SETUP: &str = r#"
user() {
    useradd --create-home --shell "$2" --groups sudo "$1"
    install -d -m 700 -o "$1" -g "$1" "/home/$1/.ssh"
    install -m 600 -o "$1" -g "$1" /root/.ssh/authorized_keys "/home/$1/.ssh/authorized_keys"
}
for shell in fish zsh csh tcsh dash bash; do user "$shell" "$(command -v "$shell")"; done
user bsd "$(command -v bsd-csh)"
user nologin /usr/sbin/nologin
user false /bin/false
user gone /usr/bin/ksh
user cloud /bin/bash
sed -i "1s/^/command=\"echo 'Please login as the user \\\\\"ubuntu\\\\\" rather than \\\\\"cloud\\\\\".';echo;exit 142\" /" /home/cloud/.ssh/authorized_keys
user echo /bin/bash
sed -i '1s/^/command="cat" /' /home/echo/.ssh/authorized_keys
user quiet /bin/bash
sed -i '1s/^/command="true" /' /home/quiet/.ssh/authorized_keys
user noisy /bin/bash
printf '%s\n' 'echo "Welcome to noisy"; echo "mind the gap" >&2; export LANGUAGE=de LC_ALL=de_DE.UTF-8' | tee /home/noisy/.bashrc >/etc/motd
user reader /bin/bash
echo 'read -r answer' >/home/reader/.bashrc
user other /bin/bash
echo 'exec false' >/home/other/.bashrc
user expired /bin/bash
chage -d 0 expired
user ann /bin/bash
echo 'Defaults:ann requiretty' >/etc/sudoers.d/ann
user partial /bin/bash
echo 'partial ALL=(ALL) NOPASSWD: /usr/bin/true' >/etc/sudoers.d/partial
gpasswd -d partial sudo >/dev/null
mount -o remount,noexec /tmp
daemon() { /usr/sbin/sshd -E /var/log/sshd-$1.log -p "$@"; }
daemon 2200 -o MaxSessions=0
daemon 2201 -o MaxSessions=1
daemon 2202 -o MaxSessions=2 -o PermitTTY=no
daemon 2203 -o MaxStartups=2
daemon 2204 -o ForceCommand=internal-sftp
daemon 2205 -o AuthenticationMethods=publickey,password -o PasswordAuthentication=yes
daemon 2206 -o AuthorizedKeysFile=/etc/ssh/keys/%u -o Banner=/etc/motd
daemon 2207 -o SetEnv=PATH=/usr/bin:/bin
mkdir /etc/ssh/keys
cp /root/.ssh/authorized_keys /etc/ssh/keys/root
"#;

/// A user and a port, and either nothing, or the code and what its message says.
type Case = (&'static str, u16, Option<(ErrorCode, &'static str)>);

const REFUSED: ErrorCode = ErrorCode::SshCommandRefused;

const CASES: [Case; 25] = [
    ("fish", 22, None),
    ("zsh", 22, None),
    ("csh", 22, None),
    ("tcsh", 22, None),
    ("bsd", 22, None),
    ("dash", 22, None),
    ("noisy", 22, None),
    ("ann", 22, None),
    ("partial", 22, None),
    ("root", 2201, None),
    ("root", 2202, None),
    ("root", 2206, None),
    ("root", 2207, None),
    ("nologin", 22, Some((REFUSED, "This account is currently not available"))),
    ("gone", 22, Some((ErrorCode::SshKeyRefused, "for user gone"))),
    ("false", 22, Some((REFUSED, "ended with status 1 and said: nothing"))),
    ("cloud", 22, Some((REFUSED, "said: Please login as the user \"ubuntu\" rather than \"cloud\"."))),
    ("quiet", 22, Some((REFUSED, "ended with status 0 and said: nothing"))),
    ("echo", 22, Some((REFUSED, "hadn't ended after 4 s and gave back what it was sent"))),
    ("reader", 22, Some((REFUSED, "something else than Slipway's command ran there"))),
    ("other", 22, Some((REFUSED, "ended with status 1"))),
    ("expired", 22, Some((REFUSED, "password has expired"))),
    ("root", 2200, Some((REFUSED, "opens no session"))),
    ("root", 2204, Some((REFUSED, "This service allows sftp connections only"))),
    ("root", 2205, Some((ErrorCode::SshKeyRefused, "AuthenticationMethods want password as well"))),
];

fn target(world: &World, user: &str, port: u16) -> Target {
    let server = world.target(0);
    Target {
        handle: ServerHandle::new("target-0").unwrap(),
        address: Host::new(server.ip().to_string()).unwrap(),
        ssh_port: Port::new(port).unwrap(),
        ssh_user: UserName::new(user).unwrap(),
        host_key: HostKeyPolicy::Pinned(HostKey::new(server.host_key()).unwrap()),
        ssh_key: std::fs::read_to_string(world.ssh_key()).unwrap().into(),
        front_door: None,
    }
}

/// Runs scripts as an attempt does: one after the other, each with what may come next begun beside it.
async fn run_scripts(target: Target, seconds: u64) -> Result<Vec<String>, StageError> {
    let mut session = Session::connect(&target, &|_| {}).await?;
    let (redactor, cancel, mut told) = (Redactor::default(), CancellationToken::new(), Vec::new());
    for text in [
        "tell user \"$(id -un)\"\n",
        "sleep 1; tell language \"${LANGUAGE-none} $LC_ALL\"\n",
        "command -v ufw >/dev/null && tell over yes\n",
    ] {
        let options = ExecOptions {
            deadline: Duration::from_secs(seconds),
            cancel: &cancel,
            redactor: &redactor,
            on_line: &|_| {},
        };
        let done = session.exec(&Script::new("test", &[text]), &options).await?;
        assert_eq!(done.exit, RemoteExit::Exited(0), "{:?}", done.output);
        told.extend(["user", "language", "over"].iter().filter_map(|key| done.output.value(key).map(str::to_owned)));
        session.begin_next();
    }
    session.close().await;
    Ok(told)
}

#[test]
fn every_login_works_or_says_what_the_server_runs_in_the_place_of_a_script() {
    let world = World::start(WorldOptions { targets: 1, ..WorldOptions::default() }).unwrap();
    world.target(0).sh(SETUP).unwrap();
    let all = async {
        let mut running = JoinSet::new();
        for case in CASES {
            let target = target(&world, case.0, case.1);
            let seconds = if case.0 == "echo" { 4 } else { 30 };
            running.spawn(async move { (case, run_scripts(target, seconds).await) });
        }
        running.join_all().await
    };
    let ended = world.block_on(all).unwrap();
    let wrong: Vec<_> = ended.iter().filter(|(case, found)| !is_as_expected(case, found)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    many_at_once_wait_for_each_other(&world);
    a_key_is_tried_without_a_command(&world);
}

fn is_as_expected((user, _, expected): &Case, found: &Result<Vec<String>, StageError>) -> bool {
    match (expected, found) {
        (None, Ok(told)) => {
            // Without a terminal, and with leave for one harmless program, sudo makes nobody root.
            let becomes = if matches!(*user, "ann" | "partial") { user } else { "root" };
            *told == [becomes, "none C", "yes"]
        }
        (Some((code, words)), Err(error)) => error.code == *code && error.message.contains(words),
        _ => false,
    }
}

/// Two logins at a time are let in, and any other one dropped before a word.
fn many_at_once_wait_for_each_other(world: &World) {
    let all = async {
        let mut connecting = JoinSet::new();
        for _ in 0..6 {
            let target = target(world, "root", 2203);
            connecting.spawn(async move { Session::connect(&target, &|_| {}).await.map(drop) });
        }
        connecting.join_all().await
    };
    for connected in world.block_on(all).unwrap() {
        connected.unwrap();
    }
}

fn a_key_is_tried_without_a_command(world: &World) {
    let stranger = world.folder().join("stranger");
    let made =
        std::process::Command::new("ssh-keygen").args(["-qt", "ed25519", "-N", "", "-f"]).arg(&stranger).status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(stranger.with_extension("pub")).unwrap();
    world
        .target(0)
        .sh(&format!("echo 'restrict,command=\"false\" {}' >>/root/.ssh/authorized_keys", public.trim()))
        .unwrap();
    let answers = async {
        let mut answers = Vec::new();
        for port in [22, 2206] {
            let session = Session::connect(&target(world, "root", port), &|_| {}).await.unwrap();
            answers.push(session.try_key(std::fs::read_to_string(&stranger).unwrap().into()).await);
            session.close().await;
        }
        answers
    };
    assert_eq!(world.block_on(answers).unwrap(), [KeyAnswer::Taken, KeyAnswer::Refused]);
}
