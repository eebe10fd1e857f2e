//! How compose is asked about a project's own files, where it's the real one and has nothing else around it: what the files
//! say without their variables, and what they are with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use slipway_deploy::scripts::{ENV_MODEL, ENV_READ};
use slipway_tests::world::TargetServer;

use super::scripts::run;

/// Valid with values, and not for a compose that has none: a path and a limit of a variable, a volume that may be another's.
const BASE: &str = r#"
services:
  backend:
    image: x
    env_file: [../.env, {path: ./none.env, required: false}]
    volumes: ["${DATA_DIR:-./data}:/data:ro", "./nginx.conf:/n"]
    ulimits: {nofile: "${NOFILE:-1024}"}
  # not ${COMMENTED:?}, nor "${QUOTED:?}"
  db:
    image: postgres:16
    env_file: ./.env.prod
    volumes: ["pg:/var/lib/postgresql/data", "${OWN_DATA:?}:/x"]
    hostname: "${HOSTNAME:?}" # nor ${BEHIND:?}
    working_dir: "${PWD:?}"
    user: "${USER:?}"
  tools: {image: x, env_file: ../.env, profiles: [debug]}
volumes: {pg: {external: "${SHARED:-false}"}}
"#;
const PROD: &str =
    r#"services: {backend: {image: "${BACKEND_IMAGE:?tag}", extends: {file: compose.more.yml, service: more}}}"#;
const MORE: &str = r#"services: {more: {image: y, hostname: "${MORE:-1}"}}"#;

pub fn read_files_as_compose_does(target: &TargetServer) {
    let files = [("base", BASE), ("prod", PROD), ("more", MORE), ("dev", "services: {a: {image: '${DEV:?}'}}")];
    let put = files.map(|(name, text)| format!("cat >infra/compose.{name}.yml <<'END'\n{text}\nEND\n")).concat();
    let setup = format!(
        "mkdir -p /srv/views/shop/infra/data /srv/views/shop/infra/pg; cd /srv/views/shop; git init -q\n{put}\n\
         echo a >infra/nginx.conf; echo b >infra/data/c; git add .; git -c user.name=a -c user.email=a@b commit -qm a\n\
         touch infra/pg/PG_VERSION; docker volume create views_pg >/dev/null"
    );
    target.sh(&setup).unwrap();
    // What the bootstrap has beside what others need.
    let place = "root=/srv/views\ntell_file() { tell \"$1\" \"$(base64 -w 0 <\"$2\")\"; }\ncleanup() { :; }\ntrap 'cleanup' EXIT\n";
    let ask = |data: &str, parts: &[&str]| run(target, &format!("{place}{data}"), parts).unwrap();
    let (code, said) = ask("slug=shop recorded= by_commit=1 asks_docker=0 purpose=env", ENV_READ);
    assert_eq!(code, 0, "{said}");
    let large = |file: &str| {
        target.sh(&format!("truncate -s 5M /srv/views/shop/infra/{file}")).unwrap();
        let (_, said) = ask("slug=shop recorded= by_commit=1 asks_docker=0 purpose=env", ENV_READ);
        target.sh(&format!("rm /srv/views/shop/infra/{file}")).unwrap();
        said.contains(&format!("failed compose-not-allowed infra/{file} is larger than 4 MiB"))
    };
    assert!(large("none.env"), "compose would read it");
    assert!(!large("data/log.json"), "a program's own");
    let mut variables: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("variable ")).collect();
    variables.sort_unstable();
    let optional = ["DATA_DIR", "MORE", "NOFILE", "SHARED"].map(|name| format!("{name} false"));
    let required = ["BACKEND_IMAGE", "HOSTNAME", "OWN_DATA", "PWD", "USER"].map(|name| format!("{name} true"));
    let mut named = [&optional[..], &required].concat();
    named.sort_unstable();
    assert_eq!(variables, named);
    assert!(!said.contains("\nproject "), "not without values: {said}");

    let env = STANDARD.encode("BACKEND_IMAGE=\"own/x:1\"\nOWN_DATA=\"./pg\"\n");
    let (code, said) = ask(&format!("slug=shop env={env}"), ENV_MODEL);
    assert_eq!(code, 0, "{said}");
    let model = said.lines().find_map(|line| line.strip_prefix("project ")).unwrap();
    let model: Value = serde_json::from_slice(&STANDARD.decode(model).unwrap()).unwrap();
    let services = &model["services"];
    assert_eq!(services["backend"]["image"], "own/x:1");
    assert_eq!(services["backend"]["ulimits"]["nofile"], 1024);
    assert_eq!(services["backend"]["environment"], serde_json::json!({ "SLIPWAY_READS_ENV": "1" }));
    assert_eq!(services["db"]["environment"], serde_json::json!({ "SLIPWAY_READS_ENV_PROD": "1" }));
    assert_eq!(services["tools"]["environment"], serde_json::json!({ "SLIPWAY_READS_ENV": "1" }));
    assert_eq!(services["db"]["hostname"], target.sh("uname -n").unwrap().trim());
    assert_eq!(
        (&services["db"]["working_dir"], &services["db"]["user"]),
        (&"/srv/views/shop/infra".into(), &"root".into())
    );
    let object = target.sh("git -C /srv/views/shop rev-parse HEAD:infra/nginx.conf").unwrap();
    assert!(said.contains(&format!("mounted {} /srv/views/shop/infra/nginx.conf\n", object.trim())), "{said}");
    assert!(said.contains("\nfilled /srv/views/shop/infra/pg"), "{said}");
    assert!(!said.contains("\nvolume "), "another project's volume is nobody's data here: {said}");
    let left = "cd /srv/views/shop; ls -A . .slipway infra | grep -E '^[.]env|put' || :";
    assert_eq!(target.sh(left).unwrap(), ".env\n.env.prod\n", "the link, and what a service can't do without");
    let (code, said) = ask(&format!("slug=shop env={}", STANDARD.encode("BACKEND_IMAGE=x\n")), ENV_MODEL);
    let complaint = said.lines().find_map(|line| line.strip_prefix("complaint ")).unwrap();
    let complaint = String::from_utf8(STANDARD.decode(complaint).unwrap()).unwrap();
    assert!(code == 4 && complaint.contains("OWN_DATA"), "{code}: {complaint}");

    target.sh("docker volume rm views_pg >/dev/null; docker volume create shop_pg >/dev/null; echo OWN_DATA=./pg >/srv/views/shop/.env; echo BACKEND_IMAGE=x >>/srv/views/shop/.env").unwrap();
    let (_, said) = ask("slug=shop recorded= by_commit=1 asks_docker=0 purpose=env", ENV_READ);
    assert!(said.contains("\nvolume shop_pg"), "with the values that are there, it's known at once: {said}");
    target.sh("docker volume rm shop_pg; rm -rf /srv/views").unwrap();
}
