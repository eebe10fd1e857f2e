//! Tests only: what hostile compose files ask for, resolved by the real Docker Compose together with the override as it is
//! on a server, then judged. What compose itself refuses is no row here.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::OnceLock;

use slipway_protocol::DeploymentId;

use super::refusal::Refusal;
use super::{Grants, ServerFacts, judge};
use crate::ContainerDefaults;
use crate::project::compose::{ComposeProject, FILES, OVERRIDE, render_override};
use crate::project::limits::DefaultsInForce;
use crate::project::real_compose::{request, run};

const BASE: &str = r#"
services:
  backend: {image: "ghcr.io/acme/shop-backend:sha-1", ports: ["8000:8000"], build: ., env_file: ../.env}
  tg_bot: {image: "ghcr.io/acme/shop-tg-bot:sha-1", profiles: [tg], depends_on: [backend]}
  db: {image: "postgres:16", volumes: ["db_data:/var/lib/postgresql/data"]}
volumes: {db_data: }
"#;

/// What stands in the production file, and the keys that are refused for it.
const TRICKS: &[(&str, &str)] = &[
    ("services: {backend: {privileged: true}}", "privileged"),
    ("services: {backend: {pid: host}}", "pid"),
    ("services: {backend: {pid: 'container:other-db-1'}}", "pid"),
    ("services: {backend: {ipc: host}}", "ipc"),
    ("services: {backend: {ipc: 'container:other-db-1'}}", "ipc"),
    ("services: {backend: {network_mode: host}}", "network_mode"),
    ("services: {backend: {network_mode: bridge}}", "network_mode"),
    ("services: {backend: {network_mode: other_default}}", "network_mode"),
    ("services: {backend: {network_mode: 'container:other-db-1'}}", "network_mode"),
    ("services: {backend: {userns_mode: host}}", "userns_mode"),
    ("services: {backend: {uts: host}}", "uts"),
    ("services: {backend: {cgroup: host}}", "cgroup"),
    ("services: {backend: {cgroup_parent: /docker/other}}", "cgroup_parent"),
    ("services: {backend: {cap_add: [SYS_ADMIN]}}", "cap_add"),
    ("services: {backend: {cap_add: [cap_net_admin]}}", "cap_add"),
    ("services: {backend: {cap_add: [ALL]}}", "cap_add"),
    ("services: {backend: {devices: ['/dev/sda:/dev/sda']}}", "devices"),
    ("services: {backend: {device_cgroup_rules: ['b 8:* rwm']}}", "device_cgroup_rules"),
    ("services: {backend: {security_opt: ['apparmor:unconfined']}}", "security_opt"),
    ("services: {backend: {security_opt: ['seccomp:unconfined']}}", "security_opt"),
    ("services: {backend: {security_opt: ['label:disable']}}", "security_opt"),
    ("services: {backend: {sysctls: {kernel.shmmax: 1}}}", "sysctls"),
    ("services: {backend: {sysctls: ['net.ipv4.ip_forward=1']}}", "sysctls"),
    ("services: {backend: {runtime: sysbox-runc}}", "runtime"),
    ("services: {backend: {group_add: [docker]}}", "group_add"),
    ("services: {backend: {volumes_from: ['container:other-db-1']}}", "volumes_from"),
    ("services: {backend: {external_links: ['other-db-1:db']}}", "external_links"),
    ("services: {backend: {oom_kill_disable: true}}", "oom_kill_disable"),
    ("services: {backend: {oom_score_adj: -1000}}", "oom_score_adj"),
    ("services: {backend: {mem_swappiness: 90}}", "mem_swappiness"),
    ("services: {backend: {blkio_config: {weight: 1000}}}", "blkio_config"),
    ("services: {backend: {cpu_rt_runtime: 950000}}", "cpu_rt_runtime"),
    ("services: {backend: {cpu_rt_period: 950000}}", "cpu_rt_period"),
    ("services: {backend: {cpu_shares: 262144}}", "cpu_shares"),
    ("services: {backend: {shm_size: 900gb}}", "shm_size"),
    ("services: {backend: {tmpfs: ['/t:size=900g']}}", "tmpfs"),
    ("services: {backend: {volumes: [{type: tmpfs, target: /t, tmpfs: {size: 900gb}}]}}", "volumes.tmpfs.size"),
    ("services: {backend: {ulimits: {rtprio: 99}}}", "ulimits"),
    ("services: {backend: {ulimits: {nice: 40}}}", "ulimits"),
    ("services: {db: {scale: 11}}", "scale"),
    ("services: {db: {deploy: {replicas: 5000}}}", "deploy.replicas"),
    ("services: {db: {stop_grace_period: 10h}}", "stop_grace_period"),
    ("services: {backend: {storage_opt: {size: 900G}}}", "storage_opt"),
    ("services: {backend: {annotations: {run.oci.keep_original_groups: '1'}}}", "annotations"),
    ("services: {backend: {credential_spec: {file: x.json}}}", "credential_spec"),
    ("services: {backend: {isolation: hyperv}}", "isolation"),
    ("services: {backend: {develop: {watch: [{path: /etc, action: sync, target: /x}]}}}", "develop"),
    ("services: {backend: {pull_policy: build}}", "pull_policy"),
    ("services: {Backend.Two: {image: x}}", "name"),
    ("services: {backend: {container_name: other-db-1}}", "container_name"),
    ("services: {backend: {container_name: corner-shop-two-backend-1}}", "container_name"),
    ("services: {two-backend: {image: x}}", "name"),
    ("services: {backend: {container_name: corner-shop-later-backend-1}}", "container_name"),
    ("services: {backend: {container_name: corner-shop-proxy}}", "container_name"),
    ("services: {proxy: {image: x}}", "name"),
    (
        "services: {backend: {logging: {driver: syslog, options: {syslog-address: 'tcp://10.0.0.1'}}}}",
        "logging logging",
    ),
    ("services: {backend: {logging: {driver: fluentd}}}", "logging"),
    ("services: {backend: {logging: {driver: awslogs}}}", "logging"),
    ("services: {backend: {labels: {com.docker.compose.project: other}}}", "labels"),
    ("services: {db: {labels: ['slipway.commit=0123456789abcdef0123456789abcdef01234567']}}", "labels"),
    ("services: {db: {labels: ['slipway.anything=x']}}", "labels"),
    (
        "services: {backend: {deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}}}",
        "deploy.resources.reservations.devices",
    ),
    (
        "services: {backend: {deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: g, value: 1}}]}}}}}",
        "deploy.resources.reservations.generic_resources",
    ),
    ("services: {db: {ports: ['9999:5432']}}", "ports"),
    ("services: {db: {ports: ['127.0.0.1:9999:5432']}}", "ports"),
    ("services: {db: {ports: ['5432']}}", "ports"),
    ("services: {db: {ports: ['9000-9001:9000-9001/udp']}}", "ports ports"),
    ("services: {backend: {volumes: ['/:/host']}}", "volumes"),
    ("services: {backend: {volumes: ['/var/run/docker.sock:/var/run/docker.sock:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['../../other:/o:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['../../../../../../../../root/.ssh:/o:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['${ELSEWHERE:-/etc}:/o:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['..:/o']}}", "volumes"),
    ("services: {backend: {volumes: ['./a$$b:/o:ro']}}", "volumes"),
    ("{services: {db: {configs: [c1]}}, configs: {c1: {file: './a$$b'}}}", "file"),
    ("services: {backend: {volumes: ['.:/o']}}", "volumes"),
    ("services: {backend: {volumes: ['../.git:/o']}}", "volumes"),
    ("services: {backend: {volumes: ['../.slipway/served:/o:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['../.env:/o:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['./.env:/o:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['./compose.slipway.yml:/o']}}", "volumes"),
    ("services: {backend: {volumes: ['./data:/data', './data/sub:/sub:ro']}}", "volumes"),
    ("services: {backend: {volumes: ['../uploads/link:/o:ro']}}", "volumes"),
    (
        "services: {backend: {volumes: [{type: bind, source: ./data, target: /o, bind: {propagation: rshared}}]}}",
        "volumes.bind.propagation",
    ),
    ("services: {backend: {volumes: [{type: npipe, source: ./data, target: /o}]}}", "volumes.type"),
    ("{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {external: true, name: other_db_data}}}", "external"),
    ("{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {name: other_db_data}}}", "name"),
    (
        "{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {driver_opts: {type: none, o: bind, device: /}}}}",
        "driver_opts",
    ),
    (
        "{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {driver_opts: {type: nfs, o: addr=10.0.0.1, device: ':/'}}}}",
        "driver_opts",
    ),
    ("{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {driver: vieux/sshfs}}}", "driver"),
    ("{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {labels: {com.docker.compose.project: other}}}}", "labels"),
    ("{services: {db: {networks: [n1]}}, networks: {n1: {external: true, name: other_default}}}", "external"),
    ("{services: {db: {networks: [n1]}}, networks: {n1: {name: other_default}}}", "name"),
    ("{services: {db: {networks: [n1]}}, networks: {n1: {driver: host}}}", "driver"),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {driver: macvlan, driver_opts: {parent: eth0}}}}",
        "driver driver_opts",
    ),
    ("{services: {db: {networks: [n1]}}, networks: {n1: {driver: ipvlan}}}", "driver"),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {driver_opts: {com.docker.network.bridge.name: docker0}}}}",
        "driver_opts",
    ),
    ("{services: {db: {networks: [n1]}}, networks: {n1: {ipam: {driver: evil}}}}", "ipam.driver"),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {ipam: {config: [{subnet: 140.82.112.0/20}]}}}}",
        "ipam.config.subnet",
    ),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}}",
        "ipam.config.subnet",
    ),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {ipam: {config: [{subnet: 10.77.0.0/16}]}}}}",
        "ipam.config.subnet",
    ),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {ipam: {config: [{subnet: 192.168.9.0/28}]}}}}",
        "ipam.config.subnet",
    ),
    (
        "{services: {db: {networks: [n1]}}, networks: {n1: {enable_ipv6: true, ipam: {config: [{subnet: 'fd12:3456:789a::/48'}]}}}}",
        "ipam.config.subnet",
    ),
    (
        "{services: {db: {networks: [a, b, c, d, e, f]}}, networks: {a: {}, b: {}, c: {}, d: {}, e: {}, f: {}}}",
        "networks",
    ),
    ("{services: {db: {networks: [n1]}}, networks: {n1: {labels: {slipway.project: other}}}}", "labels"),
    ("{services: {db: {configs: [c1]}}, configs: {c1: {file: /etc/shadow}}}", "file"),
    ("{services: {db: {configs: [c1]}}, configs: {c1: {file: ../../other/.env}}}", "file"),
    ("{services: {db: {configs: [c1]}}, configs: {c1: {environment: HOME}}}", "environment"),
    ("{services: {db: {secrets: [c1]}}, secrets: {c1: {file: ../.env}}}", "file"),
    ("{services: {db: {secrets: [c1]}}, secrets: {c1: {environment: HOME}}}", "environment"),
    ("{services: {db: {secrets: [c1]}}, secrets: {c1: {external: true, name: other}}}", "external"),
    // What isn't in a file by itself, but in one that it takes along.
    ("{include: [extra.yml]}", "privileged"),
    ("services: {backend: {extends: {file: extra.yml, service: extra}}}", "privileged"),
    ("services: {backend: &b {privileged: true}, tg_bot: {<<: *b}}", "privileged privileged"),
];

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
        put(".env", "");
        // The same for all of them: that of the services that all have.
        let overrides = OVERRIDES.get_or_init(|| {
            put(FILES[1], "services: {}");
            let project = ComposeProject::parse(&run(&directory, &arguments(&FILES[..2], &["config"]))).unwrap();
            put(FILES[1], prod);
            // They depend on what each service says itself.
            let set = ContainerDefaults { log_rotation: false, processes: 0, no_new_privileges: false };
            let defaults = DefaultsInForce { set, logs_unbounded: true, written: "", anew: true };
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
        let grants = Grants { allowances: &allowances, ..of_sample };
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
    assert!(TRICKS.len() >= 60, "{}", TRICKS.len());
    let judged = TRICKS.iter().map(|(prod, refused)| (prod, refused, Tricked::new(prod).refusals(&[])));
    let wrong: Vec<_> = judged.filter(|(_, refused, found)| keys(found) != **refused).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_projects_may_well_have_is_granted() {
    let judged = GOOD.iter().map(|prod| (prod, Tricked::new(prod).refusals(&[])));
    let wrong: Vec<_> = judged.filter(|(_, found)| !found.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
