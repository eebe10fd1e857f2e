//! Tests only: what hostile compose files ask for, resolved by the real Docker Compose together with the override as it is
//! on a server, then judged.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use slipway_protocol::DeploymentId;

use super::refusal::Refusal;
use super::{Grants, ServerFacts, judge};
use crate::ContainerDefaults;
use crate::project::compose::{FILES, OVERRIDE, render_override};
use crate::project::compose_program::{request, run};
use crate::project::limits::DefaultsInForce;
use crate::project::model::ComposeProject;

const BASE: &str = r#"
services:
  backend: {image: "ghcr.io/acme/shop-backend:sha-1", ports: ["8000:8000"], build: ., env_file: ../.env}
  tg_bot: {image: "ghcr.io/acme/shop-tg-bot:sha-1", profiles: [tg], depends_on: [backend]}
  db: {image: "postgres:16", volumes: ["db_data:/var/lib/postgresql/data"]}
volumes: {db_data: }
"#;

/// A line each: the keys that are refused, and what stands in the production file.
fn tricks() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("tricks.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(" <= ").unwrap())
}

/// What projects may well have.
const GOOD: &[&str] = &[
    "services: {backend: {volumes: ['${DATA_DIR:-./data}:/data:ro'], ulimits: {nofile: '${NOFILE:-1024}'}}}",
    "services: {web: {image: 'nginx:1.27', volumes: ['./nginx.conf:/etc/nginx/nginx.conf:ro']}}",
    "services: {adminer: {image: adminer, profiles: [debug], privileged: false}}",
    "services: {backend: {pull_policy: always}}",
    "{services: {backend: {networks: {n1: {ipv4_address: 172.28.0.9}}}}, networks: {n1: {ipam: {config: [{subnet: 172.28.0.0/24, gateway: 172.28.0.1}]}}}}",
    "services: {migrate: {image: x, command: [migrate], deploy: {restart_policy: {condition: none}}}}",
    "services: {db: {command: [postgres, -c, max_connections=200], shm_size: 256mb, stop_grace_period: 1m, user: '999:999', init: true}}",
    "services: {backend: {security_opt: ['no-new-privileges:false']}}",
    "services: {db: {cap_drop: [ALL], cap_add: [CHOWN, setuid, CAP_SETGID], security_opt: ['no-new-privileges:true'], read_only: true, tmpfs: ['/run', '/tmp:size=64m,mode=1777']}}",
    "services: {redis: {image: 'redis:7', sysctls: {net.core.somaxconn: 1024}, network_mode: 'service:db', expose: ['6379']}}",
    "services: {backend: {mem_limit: 512m, memswap_limit: 512m, cpus: 1.5, pids_limit: 200, cpu_shares: 512, oom_score_adj: 100}}",
    "services: {backend: {logging: {driver: json-file, options: {max-size: 10m, max-file: '3'}}, labels: {traefik.enable: 'true'}, hostname: shop, dns: [9.9.9.9], extra_hosts: ['db2:10.0.0.9']}}",
    "services: {backend: {container_name: corner-shop-backend, platform: linux/amd64, healthcheck: {test: [CMD, 'true'], interval: 5s}}}",
    "{services: {db: {configs: [c1], secrets: [s1]}}, configs: {c1: {content: 'a=b'}}, secrets: {s1: {file: ./password.txt}}}",
    "{services: {db: {volumes: ['more:/more', '/anonymous', {type: tmpfs, target: /t, tmpfs: {size: 1048576}}]}}, volumes: {more: {labels: {a: b}, driver: local}}}",
    "{services: {db: {networks: {back: {aliases: [database]}}}}, networks: {back: {internal: true, driver: bridge}}, x-common: {a: 1}}",
    "services: {db: {volumes_from: ['backend:ro'], links: ['backend:b'], pid: 'service:backend', ipc: shareable}}",
    "{services: {db: {secrets: [c1]}}, secrets: {c1: {environment: OWN}}, configs: {c2: {environment: OWN}}}",
    "services: {backend: {group_add: ['1000', 998], tmpfs: ['/t:rw,noexec,nosuid,size=65536k,mode=700,uid=1']}}",
    "{services: {backend: {networks: [n1]}}, networks: {n1: {ipam: {config: [{subnet: 172.28.0.0/24, ip_range: 172.28.0.128/25, gateway: 172.28.0.1}]}}}}",
    "services: {db: {volumes: [{type: volume, source: db_data, target: /o, volume: {nocopy: true, subpath: a/b}}]}}",
    "services: {backend: {container_name: corner-shop-v2}, db-more: {image: x, scale: 1, environment: [HTTPS_PROXY]}}",
    "services: {db: {ports: ['15432:5432']}, shop-proxy: {image: x, container_name: corner-shop_shop-proxy}}",
];

static OVERRIDES: OnceLock<String> = OnceLock::new();

/// A project on disk.
pub(super) struct Tricked {
    _folder: tempfile::TempDir,
    directory: PathBuf,
}

impl Tricked {
    pub(super) fn new(prod: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().canonicalize().unwrap().join("corner-shop");
        std::fs::create_dir_all(directory.join("infra")).unwrap();
        let put = |file: &str, text: &str| std::fs::write(directory.join(file), text).unwrap();
        put(FILES[0], BASE);
        put(FILES[1], prod);
        put("infra/extra.yml", "services: {extra: {image: x, privileged: true}}");
        put(".env", "OWN=1\nHOME=/x\nDOCKER_AUTH_CONFIG=x\n");
        // The same for all of them: that of the services that all have.
        let overrides = OVERRIDES.get_or_init(|| {
            put(FILES[1], "services: {}");
            let project = ComposeProject::parse(&run(&directory, &arguments(&FILES[..2], &["config"]))).unwrap();
            put(FILES[1], prod);
            // They depend on what each service says itself.
            let set = ContainerDefaults { log_rotation: false, processes: 0, no_new_privileges: false };
            let defaults = DefaultsInForce::anew(set);
            render_override(&request(), &project, &BTreeMap::new(), DeploymentId(uuid::Uuid::nil()), &defaults)
        });
        put(OVERRIDE, overrides);
        Self { _folder: folder, directory }
    }

    pub(super) fn refusals(&self, allowances: &[&str]) -> Vec<Refusal> {
        let model = run(&self.directory, &arguments(&FILES, &["config"]));
        let allowances: Vec<_> = allowances.iter().map(|a| a.parse().unwrap()).collect();
        let server = ServerFacts {
            neighbours: vec!["corner-shop-two".to_owned(), "other".to_owned(), "corner".to_owned()],
            taken: vec!["corner-shop-proxy".to_owned(), "corner-shop-proxy-1".to_owned()],
            routes: ["10.77.3.0/24", "192.168.9.9", "fd12:3456:789a::1", "fe80::/64", "odd"]
                .map(str::to_owned)
                .to_vec(),
            writable: BTreeSet::from([self.directory.join("uploads").to_str().unwrap().to_owned()]),
        };
        let request = request();
        let of_sample = Grants::of_sample(&request, self.directory.to_str().unwrap(), &server);
        let variables = ["OWN", "HOME", "DOCKER_AUTH_CONFIG"].map(str::to_owned).into();
        let grants = Grants { allowances: &allowances, variables: &variables, ..of_sample };
        judge(&model, &grants).unwrap().refusals
    }
}

fn arguments<'a>(files: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["--project-name", "corner-shop", "--env-file", ".env"];
    arguments.extend(files.iter().flat_map(|file| ["-f", file]));
    arguments.extend(["--profile", "*"]);
    arguments.extend(rest);
    arguments.extend(["--format", "json"]);
    arguments
}

pub(super) fn keys(refusals: &[Refusal]) -> String {
    refusals.iter().map(|r| r.key.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_trick_is_refused_by_its_key_and_nothing_else_is() {
    assert!(tricks().count() >= 60, "{}", tricks().count());
    let judged = tricks().map(|(refused, prod)| (prod, refused, Tricked::new(prod).refusals(&[])));
    let wrong: Vec<_> = judged.filter(|(_, refused, found)| keys(found) != *refused).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_projects_may_well_have_is_granted() {
    let judged = GOOD.iter().map(|prod| (prod, Tricked::new(prod).refusals(&[])));
    let wrong: Vec<_> = judged.filter(|(_, found)| !found.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
