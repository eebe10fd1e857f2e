//! While another project's domains come and go, and the door itself is replaced, those who ask a project notice nothing,
//! and certificates stay. How they are issued and refused is in `pipeline/certificates.rs`.

use slipway_deploy::{DeploymentWork, RestoreOutcome};
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Commit, Variant, net};

use crate::front_door::scene::{DoorProject, noticed_only_reloads, timed};
use crate::pipeline::restoring::restore;
use crate::pipeline::scene::{AttemptScene, PORT};

const DOMAIN: &str = net::DOMAINS[0];
const OTHERS: &str = net::DOMAINS[1];
const REFUSED: &str = net::DOMAINS[2];

fn work(project: &DoorProject<'_>, commit: &Commit, domains: &[&str]) -> DeploymentWork {
    let mut work = project.work(commit);
    work.request.allocations[1].domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
    work
}

fn deploy(project: &DoorProject<'_>, commit: &Commit, domains: &[&str]) {
    project
        .run(work(project, commit, domains))
        .unwrap_or_else(|failed| panic!("{}: {} {:?}", failed.0, failed.1, failed.1.tail));
}

/// The number of the certificate that is shown for a domain; empty without one.
fn serial(project: &DoorProject<'_>, domain: &str) -> String {
    let show = "openssl s_client -connect 127.0.0.1:443 -servername \"$0\" </dev/null 2>/dev/null | openssl x509 -noout -serial";
    let output = project.server().exec(&["sh", "-c", show, domain]).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A port 80 that is a project's own is the door's for domains as well, and its rule in ufw outlives them.
fn has_port_80_itself(cafe: &DoorProject<'_>, commit: &Commit) {
    cafe.server().sh("ufw allow 22/tcp; ufw --force enable").unwrap();
    let here = DoorProject::alone(cafe.scene, &cafe.slug, 80);
    for domains in [&[OTHERS][..], &[]] {
        deploy(&here, commit, domains);
        here.answers(commit);
        let rules = cafe.server().sh("ufw show added").unwrap();
        assert!(rules.contains("ufw allow 80/tcp comment 'slipway:cafe'"), "{rules}");
        assert!(rules.contains("ufw allow 443/tcp comment 'slipway:FRONT-DOOR'"), "another project has one: {rules}");
    }
}

#[test]
fn domains_of_others_and_a_new_door_leave_certificates_and_askers_alone() {
    let mut scene = AttemptScene::new();
    let authority = scene.world.start_authority(720, &[REFUSED]).unwrap();
    scene.with_authority(&authority);
    let shop = DoorProject::alone(&scene, "shop", PORT);
    let mut serving = shop.publish(Variant::Healthy);
    deploy(&shop, &serving, &[DOMAIN]);
    let number = serial(&shop, DOMAIN);
    assert!(number.starts_with("serial="), "{number}");

    let asking = shop.ask();
    let bakery = DoorProject::alone(&scene, "bakery", PORT + 1);
    let others = bakery.publish(Variant::Healthy);
    timed("another project's domain comes", || deploy(&bakery, &others, &[OTHERS]));
    assert!(serial(&bakery, OTHERS).starts_with("serial="));
    timed("and goes", || deploy(&bakery, &others, &[]));
    assert_eq!(serial(&bakery, OTHERS), "");
    serving = shop.publish(Variant::Healthy);
    deploy(&shop, &serving, &[DOMAIN]);
    noticed_only_reloads("while domains come and go", &asking.stop().unwrap(), 2);
    assert_eq!(serial(&shop, DOMAIN), number, "after a redeployment");

    // A first deployment that fails for good holds no domain that somebody else may want.
    let cafe = DoorProject::alone(&scene, "cafe", PORT + 2);
    let commit = cafe.publish(Variant::Healthy);
    let (stage, error) = *cafe.run(work(&cafe, &commit, &[OTHERS, REFUSED])).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Verify, ErrorCode::CertificateFailed), "{error}");
    assert!(matches!(restore(&scene, work(&cafe, &commit, &[OTHERS, REFUSED])), RestoreOutcome::Nothing));
    timed("a domain of what has failed", || deploy(&bakery, &others, &[OTHERS]));
    assert!(serial(&bakery, OTHERS).starts_with("serial="));

    deploy(&bakery, &others, &[]);
    has_port_80_itself(&cafe, &commit);

    shop.server().sh("docker rm -f slipway-front-door").unwrap();
    let other = bakery.publish(Variant::Healthy);
    deploy(&bakery, &other, &[]);
    shop.answers(&serving);
    assert_eq!(serial(&shop, DOMAIN), number, "after a new door");
}
