//! Tests only: allowances, paths in the compose files themselves, and the error's text. The tricks are in `tricks`.
#![expect(clippy::unwrap_used, reason = "tests")]

use slipway_protocol::ErrorCode;

use super::judge_files;
use super::refusal::explain;
use super::tricks::{Tricked, keys};

#[test]
fn an_operators_allowance_grants_what_it_says_and_nothing_beside_it() {
    for (prod, allowance) in [
        ("services: {backend: {privileged: true}}", "privileged"),
        ("services: {backend: {network_mode: host}}", "network:host"),
        ("services: {backend: {pid: host}}", "pid:host"),
        ("services: {backend: {ipc: host}}", "ipc:host"),
        ("services: {backend: {cap_add: [CAP_NET_ADMIN]}}", "cap:NET_ADMIN"),
        ("services: {backend: {devices: ['/dev/dri:/dev/dri']}}", "device:/dev/dri"),
        ("services: {backend: {volumes: ['/srv/media:/m']}}", "bind:/srv/media"),
        ("services: {backend: {volumes: ['/srv/media:/m:ro']}}", "bind:/srv/media:ro"),
        ("services: {db: {ports: ['9999:5432']}}", "port:9999"),
        ("services: {db: {sysctls: {net.ipv4.ip_forward: 1}}}", "sysctl:net.ipv4.ip_forward"),
        (
            "{services: {db: {volumes: ['v1:/v']}}, volumes: {v1: {external: true, name: shared}}}",
            "external-volume:shared",
        ),
        ("{services: {db: {networks: [n1]}}, networks: {n1: {external: true, name: proxy}}}", "external-network:proxy"),
    ] {
        let project = Tricked::new(prod);
        let refused = project.refusals(&["bind:/srv", "cap:SYS_TIME", "port:1"]);
        assert_eq!(refused.first().and_then(|r| r.allow.as_ref()).map(ToString::to_string).as_deref(), Some(allowance));
        assert_eq!(project.refusals(&[allowance]), [], "{prod}");
    }
    let writable = Tricked::new("services: {backend: {volumes: ['/srv/media:/m']}}");
    assert_eq!(keys(&writable.refusals(&["bind:/srv/media:ro"])), "volumes", "read-only was allowed");
}

#[test]
fn paths_that_lead_out_of_the_project_are_named_before_compose_reads_them() {
    let place = "/opt/services/corner-shop";
    for (yaml, key) in [
        ("services: {a: {env_file: ../../other/.env}}", "env_file"),
        ("services: {a: {env_file: [{path: /etc/shadow, required: false}]}}", "env_file"),
        ("services: {a: {env_file: [../.env, ../.slipway/served/env]}}", "env_file"),
        ("services: {a: {label_file: /etc/shadow}}", "label_file"),
        ("services: {a: {extends: {file: ../../other/infra/compose.base.yml, service: a}}}", "extends"),
        ("services: {a: {extends: {file: 'https://github.com/evil/x.git', service: a}}}", "extends"),
        ("include: ['https://github.com/evil/x.git']", "include"),
        ("include: [{path: ../../other/infra/compose.base.yml}]", "include"),
        ("include: [{path: a.yml, env_file: ../../other/.env}]", "include"),
    ] {
        assert_eq!(keys(&judge_files(place, &[yaml.as_bytes()])), key, "{yaml}");
    }
    let good = b"include: [more.yml]\nservices: {a: {env_file: [../.env, ./.env.prod, $X], extends: {file: compose.base.yml}}}";
    assert_eq!(judge_files(place, &[good]), []);
}

#[test]
fn the_error_names_service_key_value_and_rule_and_how_to_allow_it() {
    let found = Tricked::new(
        "services: {backend: {privileged: true, pid: host, userns_mode: host, uts: host, cap_add: [ALL]}}",
    );
    let error = explain("corner-shop", &found.refusals(&[])).unwrap_err();
    assert_eq!(error.code, ErrorCode::ComposeNotAllowed);
    let rest = "`slipway projects allow corner-shop cap:ALL --why TEXT`";
    assert!(error.message.contains("service backend: cap_add: ALL (") && error.message.contains(rest), "{error}");
    assert!(error.message.ends_with("; and 1 more"), "{error}");
    assert_eq!(error.tail.len(), 5, "{:?}", error.tail);
    assert_eq!(explain("corner-shop", &[]), Ok(()));
}

#[test]
fn no_project_of_whatever_slug_has_a_container_with_a_name_of_the_front_door() {
    use super::service::is_doors;
    for (name, is) in [
        ("slipway-front-door", true),
        ("slipway-front-door-next", true),
        ("slipway-front-door-1", true),
        ("slipway-front-1", false),
        ("slipway-frontend-1", false),
    ] {
        assert_eq!(is_doors(name), is, "{name}");
    }
}
