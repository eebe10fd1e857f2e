//! A move on two real servers, of which the one that is left sends what it likes.

use std::collections::BTreeMap;

use slipway_deploy::{Departure, DeploymentWork};
use slipway_protocol::{Action, ErrorCode, MoveData, Stage};
use slipway_tests::world::{Commit, Generation, Module, Sample, Variant};

use super::scene::{AttemptScene, PORT};

/// Makes an archive on the server in the place of tar's own.
const FAKE: &str = "cat >/usr/local/bin/tar <<'END'
#!/bin/sh
case \" $* \" in *' --create '*) exec python3 /root/archive.py ;; *) exec /usr/bin/tar \"$@\" ;; esac
END
chmod 755 /usr/local/bin/tar
cat >/root/archive.py <<'END'
import io, sys, tarfile
out = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')
def add(name, kind=tarfile.REGTYPE, link='', body=b'harm'):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o4777
    if kind == tarfile.REGTYPE:
        info.size = len(body)
    out.addfile(info, io.BytesIO(body) if kind == tarfile.REGTYPE else None)
";

const LINKS: &str = "add('./escaped-here')
add('../escaped-up'); add('/root/escaped-root'); add('../../../../../../root/escaped-far')
add('./out', tarfile.SYMTYPE, '/'); add('./out/root/escaped-by-link')
add('./up', tarfile.SYMTYPE, '../..'); add('./up/escaped-by-dots')
add('./passwd', tarfile.LNKTYPE, '/etc/passwd'); add('./passwd', body=b'escaped')
add('./shadow', tarfile.LNKTYPE, '../../../../../etc/shadow'); add('./shadow', body=b'escaped')
out.close()
END
";

const DEVICE: &str = "add('./disk', tarfile.BLKTYPE)
out.close()
END
";

const ENDLESS: &str = "for number in range(1 << 20):
    add('./part-%d' % number, body=b'x' * (1 << 20))
END
";

/// The work of a move from server 0 to server 1.
fn moving(scene: &AttemptScene, sample: &Sample, commit: &Commit) -> DeploymentWork {
    let of = |index| {
        let mut work = scene.work_on((index, PORT), sample, commit, "shop", &BTreeMap::new());
        work.request.modules.retain(|module| module.as_str() == "backend");
        work
    };
    let (there, here) = (of(0), of(1));
    let moving = Departure {
        target: there.target,
        request: there.request,
        data: MoveData::Copy,
        github_digests: BTreeMap::new(),
    };
    DeploymentWork { action: Action::Move, moving: Some(moving), lease: slipway_deploy::LeaseGuard::endless(2), ..here }
}

/// Another name for the machine that is left, and files in the project's directory that git doesn't have.
fn refuses_what_would_lose_data(scene: &AttemptScene, work: &DeploymentWork) {
    let old = scene.world.target(0);
    let refused = |work: DeploymentWork| {
        let (stage, error) = *scene.run(work).err().unwrap();
        assert_eq!(stage, Stage::Preflight, "{error}");
        assert!(scene.get("/health").contains("ok"), "{}", scene.get("/health"));
        error
    };
    let mut twin = work.clone();
    twin.target = twin.moving.as_ref().unwrap().target.clone();
    let error = refused(twin);
    assert_eq!(error.code, ErrorCode::AlreadyOnServer, "{error}");
    assert!(error.message.contains("are one machine"), "{error}");

    // Compose by hand, since no request asks for it: what counts is what the containers have.
    let image = old.sh("docker ps --filter label=com.docker.compose.service=backend --format '{{.Image}}'").unwrap();
    let run = |mounts: &[&str]| {
        let mounts: String = mounts.iter().map(|mount| format!(" -v {mount}")).collect();
        old.sh(&format!(
            "docker rm -f extra >/dev/null 2>&1; mkdir -p /opt/services/shop/uploads && touch /opt/services/shop/uploads/a &&
             docker create --name extra --label com.docker.compose.project=shop --label com.docker.compose.oneoff=False \
                 --label com.docker.compose.service=extra{mounts} {} true",
            image.trim()
        ))
        .unwrap()
    };
    let shop = "/opt/services/shop";
    // What can't be written, what git has, and what Slipway has put there is no data.
    let none = [":/all:ro", "/infra:/infra", "/.slipway:/slipway"].map(|mount| format!("{shop}{mount}"));
    for (data, place) in [(":/app", "uploads/a"), ("/uploads:/uploads", "uploads")] {
        let data = format!("{shop}{data}");
        run(&[&none[0], &none[1], &none[2], &data]);
        let error = refused(work.clone());
        assert_eq!(error.code, ErrorCode::DataInVolumes, "{error}");
        assert!(error.message.contains(&format!("in its directory, at {place}, which")), "{error}");
    }
    run(&["/kept"]);
    old.sh("place=$(docker inspect --format '{{(index .Mounts 0).Source}}' extra) && touch \"$place/a\"").unwrap();
    let mut unasked = work.clone();
    unasked.moving.as_mut().unwrap().data = MoveData::Refuse;
    let error = refused(unasked);
    assert!(error.message.contains("and those without a name of extra:/kept"), "{error}");
    old.sh("docker rm -fv extra && rm -r /opt/services/shop/uploads").unwrap();
}

#[test]
fn an_archive_that_means_harm_writes_nothing_but_its_volume() {
    let scene = AttemptScene::with(2);
    let sample = Sample::new(Generation::Two, "acme", "shop").of(&[Module::Backend]);
    let commit = scene.publish(&sample, Variant::Healthy);
    let mut work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
    work.request.modules.retain(|module| module.as_str() == "backend");
    scene.run(work).unwrap_or_else(|failed| panic!("{failed:?}"));
    let (old, new) = (scene.world.target(0), scene.world.target(1));
    refuses_what_would_lose_data(&scene, &moving(&scene, &sample, &commit));
    new.sh("mkdir -p /opt/services").unwrap();
    let untouched = || {
        new.sh("sha256sum /etc/passwd /etc/shadow; find / -xdev -name 'escaped*'; ls -A /root /opt/services").unwrap()
    };
    let before = untouched();
    for (archive, says) in [(LINKS, ""), (DEVICE, "devices"), (ENDLESS, "larger than it was said to be")] {
        old.sh(&format!("{FAKE}{archive}")).unwrap();
        let (stage, error) = *scene.run(moving(&scene, &sample, &commit)).err().unwrap();
        assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::CopyFailed), "{error}");
        assert!(error.message.contains(says), "{error}");
        assert!(error.message.contains("was put back and is stable, and answers"), "{error}");
        let after = untouched().replace(".slipway-kept\n", "");
        assert_eq!(after, before, "{archive}");
        assert!(new.sh("docker volume ls -q; docker ps -aq").unwrap().trim().is_empty());
        assert!(scene.get("/health").contains(&commit.sha), "{}", scene.get("/health"));
    }
}
