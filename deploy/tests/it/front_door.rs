//! Whether an attempt has a front door: the workers' setting and what was said for the server, joined.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use slipway_deploy::{
    Acme, Deployer, DeployerConfig, DeploymentWork, DoorImage, EarlierRequests, FrontDoor, GithubCredential,
    HostKeyPolicy, LeaseGuard, ProjectLimits, Reporter, Target,
};
use slipway_protocol::names::{HostKey, Port};
use slipway_protocol::{Action, DeploymentId, Failure, Stage};
use tokio_util::sync::CancellationToken;

struct Silent;

impl Reporter for Silent {
    fn line(&self, _: Stage, _: &str) {}
    fn retrying(&self, _: Stage, _: &Failure, _: Duration) {}
    fn host_key_learned(&self, _: &HostKey) {}
}

fn door(by_default: bool) -> FrontDoor {
    FrontDoor {
        by_default,
        image: DoorImage::new(&format!("docker.io/library/caddy@sha256:{}", "a".repeat(64))).unwrap(),
        drain_limit: Duration::from_secs(30),
        proving_time: Duration::from_secs(12),
        acme: Acme::default(),
    }
}

fn work(front_door: Option<bool>) -> DeploymentWork {
    let request = json!({
        "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "shop" },
        "repository": { "name": "acme/shop", "commit": "0".repeat(40), "branch": "main" },
        "server": { "handle": "one" },
        "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
        "modules": ["backend"],
    });
    DeploymentWork {
        deployment: DeploymentId(uuid::Uuid::nil()),
        action: Action::Deploy,
        remove_volumes: false,
        moving: None,
        shares_repository: false,
        former_owners: Vec::new(),
        ci_taken: None,
        request: serde_json::from_value(request).unwrap(),
        target: Target {
            handle: "one".parse().unwrap(),
            address: "192.0.2.1".parse().unwrap(),
            ssh_port: Port::new(22).unwrap(),
            ssh_user: "root".parse().unwrap(),
            host_key: HostKeyPolicy::Refuse,
            ssh_key: "a key".into(),
            front_door,
        },
        secrets: BTreeMap::new(),
        registry: None,
        images: BTreeMap::new(),
        earlier: EarlierRequests::default(),
        github_digests: BTreeMap::new(),
        allowances: Vec::new(),
        lease: LeaseGuard::endless(1),
    }
}

#[test]
fn an_attempt_has_a_door_where_the_setting_or_its_server_says_so() {
    for (setting, of_server, has_one) in [
        (Some(true), None, true),
        (Some(true), Some(false), false),
        (Some(false), None, false),
        (Some(false), Some(true), true),
        // Who knows no door, as a check of a server, has none.
        (None, Some(true), false),
    ] {
        let config = DeployerConfig {
            github_api: "http://127.0.0.1".to_owned(),
            github_git: "https://github.com".to_owned(),
            github: GithubCredential::Token("t".into()),
            image_registry: "ghcr.io".to_owned(),
            registry_token_host: None,
            digest_key: "0123456789abcdef0123456789abcdef".into(),
            ca_file: None,
            project_root: "/opt/services".to_owned(),
            command_timeout: Duration::from_secs(60),
            health_timeout: Duration::from_secs(60),
            limits: ProjectLimits::DEFAULT,
            front_door: setting.map(door),
        };
        let deployer = Deployer::new(config).unwrap();
        let attempt = deployer.begin(work(of_server), Arc::new(Silent), CancellationToken::new());
        assert_eq!(attempt.front_door().is_some(), has_one, "{setting:?} {of_server:?}");
    }
}
