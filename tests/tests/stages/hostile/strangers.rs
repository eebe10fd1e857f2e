//! A project whose authors want more than a project gets, beside one that doesn't know of it. What is tried here is tried on a
//! real server, on all ways on which something is started; what else a compose file may ask for is in `compose`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use slipway_deploy::{DeploymentWork, RestoreOutcome, StageError};
use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::world::{Generation, Sample, Variant};
use tokio_util::sync::CancellationToken;

use super::innocent::Innocent;
use crate::pipeline::scene::AttemptScene;

const STRANGERS: u16 = 9090;
/// All that is the innocent project's, and the containers of both.
const STATE: &str = "cd /opt/services/shop && find . -type f ! -path './.slipway/lock' | sort | xargs sha256sum
    docker volume ls | sort; docker network ls --format '{{.Name}}' | sort
    docker ps -aq --no-trunc | sort | xargs docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.Config.Image}}'
    ls /opt/services /";

/// The stranger's sample with more in its production file.
fn asking_for(service: &str, wish: &str) -> Sample {
    let sample = Sample::new(Generation::Two, "acme", "guest");
    let prod = production_file(&sample);
    let more = prod.replacen(&format!("  {service}:\n"), &format!("  {service}:\n{wish}"), 1);
    assert_ne!(more, prod);
    sample.with_file("infra/compose.prod.yml", &more)
}

fn production_file(sample: &Sample) -> String {
    let folder = tempfile::tempdir().unwrap();
    sample.write(folder.path()).unwrap();
    fs::read_to_string(folder.path().join("infra/compose.prod.yml")).unwrap()
}

fn to(scene: &AttemptScene, sample: &Sample) -> DeploymentWork {
    let commit = scene.publish(sample, Variant::Healthy);
    scene.work_on((0, STRANGERS), sample, &commit, "guest", &BTreeMap::new())
}

/// The error of a deployment that env refuses.
fn refused(scene: &AttemptScene, sample: &Sample) -> StageError {
    let commit = scene.world.git().publish(sample).unwrap();
    let work = scene.work_on((0, STRANGERS), sample, &commit, "guest", &BTreeMap::new());
    let (stage, error) = *scene.run(work).err().unwrap();
    assert_eq!(stage, Stage::Env, "{error}");
    error
}

/// Tries all of them.
pub fn a_stranger_gets_nothing_of_the_server_or_of_its_neighbour_on_any_way(
    scene: &AttemptScene,
    innocent: &Innocent<'_>,
) {
    let server = scene.world.target(0);
    // Without the variables' values compose itself can't read this.
    let values = "    volumes: ['${DATA_DIR:-./data}:/data:ro']\n    ulimits: {nofile: '${NOFILE:-1024}'}\n";
    let harmless = asking_for("backend", values);
    scene.run(to(scene, &harmless)).unwrap();
    let before = server.sh(STATE).unwrap();

    for (service, wish, told) in [
        (
            "db",
            "    volumes: ['./everything:/host:ro']\n",
            "/infra/everything (no part of the path may be a symbolic link",
        ),
        ("db", "    env_file: ../../shop/.env\n", "service db: env_file: "),
        ("db", "    volumes: ['theirs:/x']\n", "volume theirs: external: shop_db_data ("),
    ] {
        let mut sample = asking_for(service, wish);
        if wish.contains("theirs") {
            let prod = production_file(&sample);
            assert!(!prod.contains("\nvolumes:"), "{prod}");
            let volumes = "\nvolumes:\n  theirs: {external: true, name: shop_db_data}\n";
            sample = sample.with_file("infra/compose.prod.yml", &format!("{prod}{volumes}"));
        }
        let error = refused(scene, &sample.with_link("infra/everything", "/"));
        assert_eq!(error.code, ErrorCode::ComposeNotAllowed, "{wish}: {error}");
        assert!(error.message.contains(told), "{wish}: {error}");
    }
    // Hidden from whoever reads the files, and still out of compose's reach: it quotes lines that it doesn't understand.
    for wish in [
        "    env_file: ['${HIDDEN:-../../shop/notes}']\n",
        "    env_file: ['${HIDDEN:-/etc/shadow}']\n",
        "    env_file: ['${HIDDEN:-./everything/etc/shadow}']\n",
    ] {
        let error = refused(scene, &asking_for("db", wish).with_link("infra/everything", "/"));
        assert_eq!(error.code, ErrorCode::ComposeInvalid, "{wish}: {error}");
    }
    // The worker reaches no registry here: where nobody says that it's everybody's, another owner's image isn't pulled.
    let error = refused(scene, &asking_for("db", "    image: ghcr.io/other/private:1\n"));
    assert_eq!(error.code, ErrorCode::RegistryUnavailable, "{error}");
    let lines = scene.heard.lines.lock().unwrap().join("\n");
    assert!(!lines.contains("nobodys else") && !lines.contains("root:"), "{lines}");
    assert_eq!(server.sh(STATE).unwrap(), before);

    let open = asking_for("db", "    ports: ['15999:5432']\n");
    let (deployer, heard, work) = (scene.deployer.clone(), scene.heard.clone(), to(scene, &open));
    let plan = async move { deployer.plan(work, heard, CancellationToken::new()).await };
    let error = scene.world.block_on(plan).unwrap().unwrap_err();
    assert_eq!(error.code, ErrorCode::ComposeNotAllowed, "{error}");
    git_follows_no_link(scene, &harmless);

    // What an operator allows is granted, and nothing is that was allowed to others.
    let mut allowed = to(scene, &open);
    allowed.allowances = vec!["port:15999".parse().unwrap()];
    scene.run(allowed).unwrap();
    nothing_is_started_that_was_not_judged(scene, to(scene, &harmless));
    innocent.assert_unharmed("a stranger");
}

/// As if a container had put a link where git writes, between git's look and its write.
fn git_follows_no_link(scene: &AttemptScene, sample: &Sample) {
    let git = "#!/usr/bin/sh
        for word; do
            case $word in
            read-tree | checkout | reset)
                ln -sfnT /root /opt/services/guest/infra/way
                echo written >/opt/services/guest/infra/way/written
                echo tried >/opt/services/guest/infra/tried
                ;;
            esac
        done
        exec /usr/bin/git \"$@\"\n";
    let server = scene.world.target(0);
    let place = "/usr/local/bin/git";
    server.sh(&format!("[ ! -e {place} ] && cat >{place} <<'END'\n{git}END\nchmod 755 {place}")).unwrap();
    scene.run_stages(to(scene, sample), &[Stage::Preflight, Stage::Clone]).unwrap();
    server
        .sh(&format!("rm {place} && cd /opt/services/guest/infra && rm tried way && [ ! -e /root/written ]"))
        .unwrap();
}

/// As if a container of the project's had a way to its files: what was judged is what is started, whoever starts it.
fn nothing_is_started_that_was_not_judged(scene: &AttemptScene, work: DeploymentWork) {
    let server = scene.world.target(0);
    scene.run(work.clone()).unwrap();
    let tamper = "cd /opt/services/guest/infra && cp compose.prod.yml /root/kept && \
                  sed -i 's/^  db:$/  db:\\n    privileged: true/' compose.prod.yml && ! cmp -s compose.prod.yml /root/kept";
    let mend = "cat /root/kept >/opt/services/guest/infra/compose.prod.yml";
    let before = server.sh(STATE).unwrap();

    let secrets = scene.github.secrets("acme/guest");
    let key = scene.world.folder().join("strangers-key");
    fs::write(&key, &secrets["DEPLOY_SSH_KEY"]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let push = || {
        let mut ssh = scene.world.command("ssh");
        ssh.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.arg("-i").arg(&key).arg(format!("{}@{}", secrets["DEPLOY_USER"], secrets["DEPLOY_HOST"]));
        let output = ssh.arg("docker compose pull").stdin(Stdio::null()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    server.sh(tamper).unwrap();
    let (green, said) = push();
    assert!(!green && said.contains("compose-not-allowed"), "{said}");
    assert_eq!(server.sh(STATE).unwrap(), before);
    // Neither what an operator has changed by hand is a reason, nor another compose, which makes another model of the files.
    let another_compose = "cd /opt/services/guest/.slipway && cp judged /root/judged && \
                           sed -i '1s/^[0-9a-f]* [^ ]* /0 2.20.0 /' judged && ! cmp -s judged /root/judged";
    let this_compose = "cat /root/judged >/opt/services/guest/.slipway/judged";
    server.sh(another_compose).unwrap();
    server.sh(&format!("{mend} && echo 'BY_HAND=\"x\"' >>/opt/services/guest/.env")).unwrap();
    let (green, said) = push();
    assert!(green, "{said}");
    server.sh(this_compose).unwrap();

    // Put back: the files that were saved, and one that has been changed since.
    let mut next = work.clone();
    next.request.variables.insert("GREETING".parse().unwrap(), "next".to_owned());
    let put_back = |tamper: &str| {
        scene.run_stages(next.clone(), &[Stage::Preflight, Stage::Clone]).unwrap();
        server.sh(tamper).unwrap();
        let (deployer, heard, next) = (scene.deployer.clone(), scene.heard.clone(), next.clone());
        let restore = async move {
            let mut attempt = deployer.begin(next, heard, CancellationToken::new());
            let outcome = attempt.restore_previous(true, CancellationToken::new()).await;
            attempt.close().await;
            outcome
        };
        scene.world.block_on(restore).unwrap()
    };
    let outcome = put_back(
        "docker stop -t 1 guest-backend-1 && cd /opt/services/guest/.slipway/served && cp override /root/override && \
         sed -i 's/^  db:$/  db:\\n    privileged: true/' override",
    );
    assert!(matches!(&outcome, RestoreOutcome::Unknown(e) if e.code == ErrorCode::ComposeNotAllowed), "{outcome:?}");
    let privileged = "docker inspect --format '{{.HostConfig.Privileged}}' $(docker ps -aq) | sort -u";
    assert_eq!(server.sh(privileged).unwrap(), "false\n");
    let outcome = put_back("cat /root/override >/opt/services/guest/.slipway/served/override");
    assert!(matches!(&outcome, RestoreOutcome::Restored { stable: true, .. }), "{outcome:?}");

    // Stopped and started by hand.
    server.sh(tamper).unwrap();
    scene.run_stages(DeploymentWork { action: Action::Stop, ..work.clone() }, &[Stage::Compose]).unwrap();
    let start = DeploymentWork { action: Action::Start, ..work.clone() };
    let (_, error) = *scene.run_stages(start.clone(), &[Stage::Compose]).err().unwrap();
    assert_eq!(error.code, ErrorCode::ComposeNotAllowed, "{error}");
    assert_eq!(server.sh("docker ps -q --filter label=com.docker.compose.project=guest").unwrap(), "");
    server.sh(another_compose).unwrap();
    let (_, error) = *scene.run_stages(start.clone(), &[Stage::Compose]).err().unwrap();
    assert_eq!(error.code, ErrorCode::ComposeNotAllowed, "{error}");
    server.sh(&format!("{mend}; {this_compose}")).unwrap();
    scene.run_stages(start, &[Stage::Compose]).unwrap();
    assert!(scene.get_from((0, STRANGERS), "/health").contains(work.request.repository.commit.as_str()));
}
