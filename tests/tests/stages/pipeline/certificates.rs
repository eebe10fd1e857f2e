//! Domains and their certificates, from an authority that really asks the server.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;
use slipway_deploy::{DeploymentWork, RestoreOutcome};
use slipway_protocol::names::Port;
use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::world::{Authority, Commit, Generation, Sample, Variant, eventually, net};

use super::restoring::restore;
use super::scene::{AttemptScene, PORT};

const SHOP: &str = net::DOMAINS[0];
const WWW: &str = net::DOMAINS[1];
const REFUSED: &str = net::DOMAINS[2];
const RULE: &str = "ufw show added | grep -c \"'slipway:FRONT-DOOR'\" || true";

/// A scene with an authority, and whoever speaks to it.
struct Town {
    scene: AttemptScene,
    authority: Authority,
    sample: Sample,
    digests: BTreeMap<String, String>,
}

impl Town {
    fn new(minutes: u32) -> Self {
        let mut scene = AttemptScene::new();
        let authority = scene.world.start_authority(minutes, &[REFUSED]).unwrap();
        scene.with_authority(&authority);
        scene.world.target(0).sh("ufw allow 22/tcp; ufw --force enable").unwrap();
        Self { scene, authority, sample: Sample::new(Generation::Two, "acme", "shop"), digests: BTreeMap::new() }
    }

    fn work(&self, commit: &Commit, domains: &[&str]) -> DeploymentWork {
        let mut work = self.scene.work(&self.sample, commit, "shop", &self.digests);
        work.request.allocations[1].domains = domains.iter().map(|domain| domain.parse().unwrap()).collect();
        work
    }

    /// What a browser that trusts the authority gets: status, where it's sent, and the page.
    fn browse(&self, url: &str) -> Result<String, String> {
        let mut curl = self.scene.world.command("curl");
        curl.args(["-s", "-S", "--noproxy", "*", "-m", "5", "-w", " %{http_code} %{redirect_url}", "--cacert"]);
        let output = curl.arg(self.authority.root()).arg(url).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// The serial number of the certificate that is shown for a domain.
    fn serial(&self, domain: &str) -> String {
        let ask = format!("openssl s_client -connect 127.0.0.1:443 -servername {domain} </dev/null 2>/dev/null");
        let server = self.scene.world.target(0);
        server.sh(&format!("{ask} | openssl x509 -noout -serial")).unwrap().trim().to_owned()
    }

    fn rules(&self) -> String {
        self.scene.world.target(0).sh(RULE).unwrap().trim().to_owned()
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
fn domains_are_served_with_certificates_that_outlive_releases_and_the_project() {
    let mut town = Town::new(720);
    let commit = town.scene.publish(&town.sample, Variant::Healthy);

    // Before anything is touched: each record that is missing.
    let astray = town.work(&commit, &[SHOP, net::STRAY_DOMAIN, "nowhere.example.org"]);
    let (_, error) = *town.scene.run_stages(astray, &[Stage::Preflight]).err().unwrap();
    assert_eq!(error.code, ErrorCode::DomainNotHere, "{error}");
    let server = town.scene.world.target(0).ip();
    let needed = format!("it needs an A record with {server}");
    for part in [
        format!("{} leads to {} and not to this server: {needed}", net::STRAY_DOMAIN, net::WORKER),
        "domain nowhere.example.org leads nowhere (".to_owned(),
        format!("): {needed}"),
    ] {
        assert!(error.message.contains(&part), "{part}: {error}");
    }
    assert!(!error.message.contains(SHOP), "{error}");

    // Somebody else's program where the authority would ask.
    let hold = "setsid python3 -m http.server 80 >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :80; do :; done";
    town.scene.world.target(0).sh(hold).unwrap();
    let held = town.scene.run_stages(town.work(&commit, &[SHOP]), &[Stage::Preflight]).err().unwrap().1;
    assert_eq!(held.code, ErrorCode::PortOccupied, "{held}");
    assert!(held.message.contains("port 80 is held by process python3"), "{held}");
    town.scene.world.target(0).sh("kill $(ss -Hltnp 'sport = :80' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p')").unwrap();

    // A domain that the authority refuses, and another port: what served before serves on where it did.
    let before = town.scene.run(town.work(&commit, &[])).unwrap();
    town.digests = before.reports[&Stage::Secrets].github_digests.clone().unwrap();
    let rules = town.scene.world.target(0).sh("ufw show added").unwrap();
    town.scene.wait_for(12);
    let began = Instant::now();
    let mut moved = town.work(&town.scene.publish(&town.sample, Variant::Healthy), &[SHOP, WWW, REFUSED]);
    moved.request.allocations[1].host_port = Port::new(PORT + 1).ok();
    let (stage, error) = *town.scene.run(moved.clone()).err().unwrap();
    eprintln!("refused in {:?}: {error}", began.elapsed());
    assert_eq!((stage, error.code), (Stage::Verify, ErrorCode::CertificateFailed), "{error}");
    assert!(error.message.contains(REFUSED) && !error.message.contains(WWW), "{error}");
    assert!(error.message.contains("urn:ietf:params:acme:error:rejectedIdentifier"), "the authority's words: {error}");
    let outcome = restore(&town.scene, moved);
    assert!(matches!(outcome, RestoreOutcome::Restored { stable: true, .. }), "{outcome:?}");
    assert!(town.scene.get("/health").contains(&commit.sha), "by its port");
    assert_eq!(town.scene.world.target(0).sh("ufw show added").unwrap(), rules);
    town.scene.wait_for(super::scene::PATIENCE);

    let done = town.scene.run(town.work(&commit, &[SHOP, WWW])).unwrap();
    let verify = &done.reports[&Stage::Verify];
    assert_eq!(verify.url.as_deref(), Some(format!("https://{SHOP}").as_str()));
    assert_eq!(verify.facts["domains"], json!([SHOP, WWW]));
    let door = &done.reports[&Stage::Compose].facts["front_door"];
    assert_eq!((&door["version"], &door["projects"]), (&json!("v2.11.4"), &json!(["shop"])), "{door}");
    let certificates: Vec<_> =
        door["certificates"].as_array().unwrap().iter().map(|c| c["domain"].as_str().unwrap()).collect();
    assert_eq!(certificates, [SHOP, WWW], "{door}");
    let exposed = verify.facts["exposed"].as_array().unwrap();
    for port in [80, 443, 8080] {
        let seen = exposed.iter().find(|exposed| exposed["port"] == port).unwrap();
        assert_eq!((&seen["answers"], &seen["asked_for"]), (&json!(true), &json!(true)), "{seen}");
    }
    assert_eq!(town.rules(), "2");
    for domain in [SHOP, WWW] {
        let page = town.browse(&format!("https://{domain}/health")).unwrap();
        assert!(page.contains(&commit.sha) && page.trim_end().ends_with("200"), "{page}");
        let sent = town.browse(&format!("http://{domain}/health?a=b")).unwrap();
        assert_eq!(sent.trim(), format!("308 https://{domain}/health?a=b"));
    }
    town.browse(&format!("https://{REFUSED}/")).unwrap_err();
    assert!(town.scene.get("/health").contains(&commit.sha), "the port goes on");
    let serials = [town.serial(SHOP), town.serial(WWW)];
    assert!(serials[0].starts_with("serial=") && serials[0] != serials[1], "{serials:?}");
    let digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    town.digests = digests;

    // Nothing is asked of the authority any more.
    town.authority.service().stop().unwrap();
    let next = town.scene.publish(&town.sample, Variant::Healthy);
    let done = town.scene.run(town.work(&next, &[SHOP, WWW])).unwrap();
    assert_eq!(done.reports[&Stage::Verify].url.as_deref(), Some(format!("https://{SHOP}").as_str()));
    assert!(town.browse(&format!("https://{SHOP}/health")).unwrap().contains(&next.sha));
    assert_eq!([town.serial(SHOP), town.serial(WWW)], serials);

    let undeploy = |town: &Town, stages: &[Stage]| {
        let mut work = town.work(&next, &[SHOP, WWW]);
        work.action = Action::Undeploy;
        town.scene.run_stages(work, stages).unwrap()
    };
    let gone = undeploy(&town, Action::Undeploy.stages());
    assert_eq!(gone.reports[&Stage::Firewall].facts["closed"], json!(["8080", "80", "443"]));
    assert_eq!(gone.reports[&Stage::Compose].facts["front_door"], json!(null));
    assert_eq!(town.rules(), "0");
    town.browse(&format!("http://{SHOP}/")).unwrap_err();

    let back = town.scene.run(town.work(&next, &[SHOP, WWW])).unwrap();
    assert_eq!(back.reports[&Stage::Firewall].facts["opened"], json!(["8080", "80", "443"]));
    assert_eq!([town.serial(SHOP), town.serial(WWW)], serials, "kept with what else outlives the project");
    // They go with the last of all projects' domains.
    town.scene.world.target(0).sh("touch /opt/services/.slipway-front-door/domains/kiosk").unwrap();
    let closed = undeploy(&town, &[Stage::Firewall]);
    assert_eq!(closed.reports[&Stage::Firewall].facts["closed"], json!(["8080"]));
    assert_eq!(town.rules(), "2");
}

#[test]
#[ignore = "for soaks: it waits until the door renews a certificate of five minutes"]
fn soak_a_certificate_is_renewed_before_its_end_and_nobody_notices() {
    let town = Town::new(5);
    let commit = town.scene.publish(&town.sample, Variant::Healthy);
    town.scene.run(town.work(&commit, &[SHOP])).unwrap();
    let (before, began) = (town.serial(SHOP), Instant::now());
    let mut last = String::new();
    eventually("another certificate", Duration::from_secs(290), || {
        let page = town.browse(&format!("https://{SHOP}/health")).unwrap();
        assert!(page.contains(&commit.sha), "at every moment: {page}");
        last = town.serial(SHOP);
        ensure!(last != before, "the same one after {:?}", began.elapsed());
        Ok(())
    })
    .unwrap();
    // Well before the end of the first one.
    assert!(began.elapsed() < Duration::from_secs(290), "{:?}", began.elapsed());
}
