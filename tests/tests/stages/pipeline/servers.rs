//! Servers as they come: over IPv6, with sshd on another port, with several projects, and one project on several.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;
use slipway_deploy::DeploymentWork;
use slipway_protocol::names::{Host, Port, UrlPath};
use slipway_protocol::{ErrorCode, HealthCheck, Stage};
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::{AttemptScene, PORT};

/// The sample with a database that everybody can reach.
fn careless() -> Sample {
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let folder = tempfile::tempdir().unwrap();
    sample.write(folder.path()).unwrap();
    let base = fs::read_to_string(folder.path().join("infra/compose.base.yml")).unwrap();
    let open = base.replace("    image: postgres:16\n", "    image: postgres:16\n    ports: [\"15999:5432\"]\n");
    assert_ne!(open, base);
    sample.with_file("infra/compose.base.yml", &open)
}

#[test]
fn a_server_with_ipv6_and_another_ssh_port_is_deployed_to_and_its_exposure_reported() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    // Its environment has variables of the project's, too, as if by /etc/environment.
    scene.start_sshd(0, 2222, "-o 'SetEnv=POSTGRES_PASSWORD=elsewhere APP_NAME=elsewhere'");
    let sample = careless();
    let commit = scene.publish(&sample, Variant::Healthy);
    let mut work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
    work.target.address = Host::new(server.ip_v6().to_string()).unwrap();
    work.target.ssh_port = Port::new(2222).unwrap();
    work.allowances = vec!["port:15999".parse().unwrap()];
    // Together too large for GitHub.
    for name in ["LARGE", "LARGER"] {
        work.request.variables.insert(name.parse().unwrap(), "x".repeat(20_000));
    }
    let done = scene.run(work.clone()).unwrap();

    let url = format!("http://[{}]:{PORT}", server.ip_v6());
    assert_eq!(done.reports[&Stage::Verify].url.as_deref(), Some(url.as_str()));
    assert!(scene.world.get(&format!("{url}/health")).unwrap().body.contains(&commit.sha));
    let secrets = scene.github.secrets("acme/shop");
    let place = (secrets["DEPLOY_HOST"].as_str(), secrets["DEPLOY_SSH_PORT"].as_str());
    assert_eq!(place, (server.ip_v6().to_string().as_str(), "2222"));

    let env = server.sh("docker inspect --format '{{.Config.Env}}' shop-backend-1 shop-db-1").unwrap();
    assert!(env.contains("POSTGRES_PASSWORD=") && !env.contains("elsewhere"), "the server's environment won: {env}");

    let exposed = json!([
        { "port": PORT, "service": "backend", "answers": true, "asked_for": true },
        { "port": 15999, "service": "db", "answers": true, "asked_for": false },
    ]);
    assert_eq!(done.reports[&Stage::Firewall].facts["exposed"], exposed);
    let lines = scene.heard.lines.lock().unwrap().join("\n");
    assert!(lines.contains("firewall: warning: port 15999 of service db answers from outside"), "{lines}");
    assert!(!lines.contains(&format!("port {PORT} of service")), "{lines}");
    assert!(lines.contains("secrets: warning: CI's job logs in on port 22, and sshd listens on 2222"), "{lines}");
    assert!(lines.contains("secrets: warning: CI's job can't log in to an IPv6 address"), "{lines}");
    assert!(lines.contains("secrets: warning: .env is larger than what GitHub takes"), "{lines}");
    assert!(!secrets.contains_key("DOTENV"));

    verifies_as_told(&scene, &work);
    a_release_that_listens_elsewhere_is_taken_back(&scene, &sample, work);
}

/// Without a rehearsal Docker sees nothing wrong: the program runs, and Docker itself listens on the server's port.
fn a_release_that_listens_elsewhere_is_taken_back(scene: &AttemptScene, sample: &Sample, mut work: DeploymentWork) {
    let next = scene.publish(&sample.clone().with_file("README.md", "elsewhere"), Variant::Healthy);
    let serving = std::mem::replace(&mut work.request.repository.commit, next.sha.parse().unwrap());
    work.request.variables.insert("SLIPWAY_REHEARSAL".parse().unwrap(), "off".to_owned());
    work.request.allocations[1].container_port = Port::new(9999).unwrap();
    work.request.allocations[1].health = Some(HealthCheck { timeout_seconds: Some(1), ..HealthCheck::default() });
    let (stage, error) = *scene.run(work).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Verify, ErrorCode::NotListening), "{error}");
    assert!(error.message.ends_with("was put back and is stable, and answers"), "{error}");
    assert!(scene.get("/health").contains(serving.as_str()), "{}", scene.get("/health"));
}

/// What is healthy, listens and is reachable, each with an answer of its own; the project runs all the while.
fn verifies_as_told(scene: &AttemptScene, work: &DeploymentWork) {
    let verify = |health: HealthCheck, edit: fn(&mut DeploymentWork)| {
        let mut work = work.clone();
        work.request.allocations[1].health = Some(HealthCheck { timeout_seconds: Some(1), ..health });
        edit(&mut work);
        scene.run_stages(work, &[Stage::Verify]).map(|done| done.reports[&Stage::Verify].facts.clone())
    };
    let at = |path: &str| HealthCheck { path: Some(UrlPath::new(path).unwrap()), ..HealthCheck::default() };
    let refused = |health, edit| {
        let (_, error) = *verify(health, edit).err().unwrap();
        (error.code, error.message)
    };
    let unchanged: fn(&mut DeploymentWork) = |_| {};

    let facts = verify(at("/?deep=1"), unchanged).unwrap();
    assert_eq!(
        (&facts["path"], &facts["status"], &facts["commit_checked"]),
        (&json!("/?deep=1"), &json!(200), &json!(true))
    );
    let missing = HealthCheck { statuses: [404].into(), ..at("/none") };
    let facts = verify(missing, unchanged).unwrap();
    assert_eq!((&facts["status"], &facts["commit_checked"]), (&json!(404), &json!(false)));

    let (code, message) = refused(at("/none"), unchanged);
    assert_eq!(code, ErrorCode::NotHealthy, "{message}");
    assert!(message.ends_with("/none answers 404; 200 to 399 is healthy"), "{message}");
    let (code, message) = refused(HealthCheck { statuses: [204, 301].into(), ..at("/") }, unchanged);
    assert!(code == ErrorCode::NotHealthy && message.ends_with("answers 200; 204 or 301 is healthy"), "{message}");
    let (code, message) = refused(at("/health"), |work| {
        work.request.repository.commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    });
    assert_eq!(code, ErrorCode::WrongVersion, "{message}");
    assert!(message.contains(work.request.repository.commit.as_str()), "{message}");

    let (code, message) = refused(at("/health"), |work| work.request.allocations[1].host_port = Port::new(9001).ok());
    assert_eq!(code, ErrorCode::NotListening, "{message}");
    let script = "setsid python3 -m http.server --bind 127.0.0.1 9002 >/dev/null 2>&1 </dev/null & \
                  until ss -Hltn | grep -q :9002; do :; done";
    scene.world.target(0).sh(script).unwrap();
    let (code, message) = refused(at("/health"), |work| work.request.allocations[1].host_port = Port::new(9002).ok());
    assert_eq!(code, ErrorCode::NotReachable, "{message}");

    let script = "setsid python3 -m http.server --bind :: 9004 >/dev/null 2>&1 </dev/null & \
                  until ss -Hltn | grep -q :9004; do :; done; ip6tables -A INPUT -p tcp --dport 2222 -j ACCEPT; \
                  ip6tables -A INPUT -p ipv6-icmp -j ACCEPT; ip6tables -A INPUT -j REJECT";
    scene.world.target(0).sh(script).unwrap();
    let (code, message) = refused(at("/health"), |work| work.request.allocations[1].host_port = Port::new(9004).ok());
    assert_eq!(code, ErrorCode::NotReachable, "{message}");
    assert!(message.contains("the server's own iptables let in nothing but what they name"), "{message}");
    scene.world.target(0).sh("ip6tables -F INPUT").unwrap();

    // One that takes connections and says nothing is somebody's fault, but no firewall's.
    let script = "setsid python3 -c 'import socket, time; s = socket.create_server((\"::\", 9003), family=socket.AF_INET6); \
                  time.sleep(1000)' >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :9003; do :; done";
    scene.world.target(0).sh(script).unwrap();
    let (code, message) = refused(at("/health"), |work| work.request.allocations[1].host_port = Port::new(9003).ok());
    assert!(code == ErrorCode::NotHealthy && message.contains("gives no answer in time"), "{message}");

    // A module that isn't the web service is asked where the request says how.
    let facts = verify(at("/health"), |work| {
        let mut bot = work.request.allocations[1].clone();
        bot.service = "tg_bot".parse().unwrap();
        bot.health = Some(HealthCheck { statuses: [404].into(), ..HealthCheck::default() });
        bot.health.as_mut().unwrap().path = Some(UrlPath::new("/none").unwrap());
        work.request.allocations.push(bot);
    })
    .unwrap();
    let services: Vec<_> =
        facts["services"].as_array().unwrap().iter().map(|s| (&s["service"], &s["status"])).collect();
    assert_eq!(services, [(&json!("backend"), &json!(200)), (&json!("tg_bot"), &json!(404))]);
    assert!(scene.get("/health").contains(work.request.repository.commit.as_str()), "nothing was put back");
}

#[test]
fn projects_share_a_server_and_a_project_that_moves_serves_on_where_it_was() {
    let scene = AttemptScene::with(2);
    for index in [0, 1] {
        scene.world.target(index).sh("ufw allow 22/tcp; ufw --force enable").unwrap();
    }
    // A name that loses letters where somebody strips the characters of `.git` from its end.
    let bakery = Sample::new(Generation::Two, "Acme", "Big.digit");
    let shop = Sample::new(Generation::One, "acme", "shop");
    let commits = (scene.publish(&shop, Variant::Healthy), scene.publish(&bakery, Variant::Healthy));
    let none = BTreeMap::new();
    // At the same time, on one server.
    std::thread::scope(|scope| {
        let one = scope.spawn(|| scene.run(scene.work(&shop, &commits.0, "shop", &none)).unwrap());
        let other = scene.work_on((0, PORT + 1), &bakery, &commits.1, "bakery", &none);
        let other = scope.spawn(|| scene.run(other).unwrap());
        (one.join().unwrap(), other.join().unwrap())
    });
    let answers = |index: usize, port: u16, sha: &str| {
        let body = scene.get_from((index, port), "/health");
        assert!(body.contains(sha), "target {index}, port {port}: {body}");
    };
    answers(0, PORT, &commits.0.sha);
    answers(0, PORT + 1, &commits.1.sha);
    let keys = scene.world.target(0).sh("cat /root/.ssh/authorized_keys").unwrap();
    assert!(keys.contains(" slipway:shop\n") && keys.contains(" slipway:bakery\n"), "{keys}");

    // To another server and port. What runs on the first one goes on, with its rule, until it's undeployed.
    let rules = scene.world.target(0).sh("ufw show added").unwrap();
    scene.run(scene.work_on((1, 9090), &shop, &commits.0, "shop", &none)).unwrap();
    answers(1, 9090, &commits.0.sha);
    answers(0, PORT, &commits.0.sha);
    assert_eq!(scene.world.target(0).sh("ufw show added").unwrap(), rules);
    assert!(scene.world.target(1).sh("ufw show added").unwrap().contains("9090/tcp comment 'slipway:shop'"));
    let secrets = scene.github.secrets("acme/shop");
    let place = (secrets["DEPLOY_HOST"].as_str(), secrets["DEPLOY_PORT"].as_str());
    // The workflow of this generation takes it for SSH's port.
    assert_eq!(place, (scene.world.target(1).ip().to_string().as_str(), "22"), "CI deploys to the newest one");
}
