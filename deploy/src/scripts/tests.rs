//! Compares the head of each script with the table of parts, and with what the Rust code around gives. What the scripts
//! do isn't tried here.
#![expect(clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::TABLE;

/// Given to scripts without any part: what starts all others.
const STARTERS: [&str; 2] = ["bootstrap.sh", "launch.sh"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

pub(super) fn script(name: &str) -> String {
    fs::read_to_string(source().join("scripts").join(name)).expect("a script")
}

/// What a script's head says: `Parameters: a b?; after x.sh, y.sh.`, where `?` marks what may be missing.
#[derive(Default)]
struct Head {
    required: BTreeSet<String>,
    optional: BTreeSet<String>,
    after: Vec<String>,
}

impl Head {
    fn read(text: &str) -> Self {
        let comment: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let comment = comment.join(" ");
        let mut head = Self::default();
        let mut rest = comment.as_str();
        if let Some(parameters) = rest.strip_prefix("Parameters: ") {
            let (names, others) = parameters.split_once(['.', ';']).expect("the parameters' end");
            for name in names.split(' ') {
                match name.strip_suffix('?') {
                    Some(name) => head.optional.insert(name.to_owned()),
                    None => head.required.insert(name.to_owned()),
                };
            }
            rest = others.trim_start();
        }
        if let Some(parts) = rest.strip_prefix("after ").or_else(|| rest.strip_prefix("After ")) {
            for part in parts.split(' ') {
                head.after.push(part.trim_end_matches([',', '.']).to_owned());
                if part.ends_with('.') {
                    break;
                }
            }
        }
        head
    }
}

/// Whether the text has that constant of the table, and not only one whose name begins with it.
fn mentions(text: &str, name: &str) -> bool {
    let mention = format!("scripts::{name}");
    text.split(mention.as_str()).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// All functions of the crate that send a script of the table, with its name.
fn callers() -> Vec<(&'static str, String)> {
    let mut folders = vec![source()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(path).expect("a file");
                for function in text.split("fn ").skip(1) {
                    let sent: Vec<_> = TABLE.iter().filter(|(name, _)| mentions(function, name)).collect();
                    assert!(sent.len() < 2, "one function sends more than one script: {function}");
                    found.extend(sent.iter().map(|(name, _)| (*name, function.to_owned())));
                }
            }
        }
    }
    found
}

/// The variables that a function gives to the script that it sends.
fn given(function: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for method in ["word", "words", "number", "hex", "bytes"] {
        let call = format!(".{method}(\"");
        let calls = function.split(call.as_str()).skip(1);
        names.extend(calls.filter_map(|rest| Some(rest.split_once("\",")?.0.to_owned())));
    }
    // The program for CI's key has them in its text.
    names.extend(function.split("={}").filter_map(|text| Some(text.rsplit_once("\\n")?.1.to_owned())));
    if function.contains(".project_script(\"") {
        names.extend(["root", "slug"].map(str::to_owned));
    }
    names.retain(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
    names
}

#[test]
fn the_head_of_each_script_names_the_parts_before_it() {
    for (name, files) in TABLE {
        let (last, parts) = files.split_last().expect("a part");
        for (at, part) in parts.iter().enumerate() {
            let head = Head::read(&script(part));
            for needed in &head.after {
                assert!(parts[..at].contains(&needed.as_str()), "{name}: {part} is to come after {needed}");
            }
        }
        let after = Head::read(&script(last)).after;
        // One script serves two callers; the other one puts the entering of a project that is to go before it.
        let enters = |part: &str| *name == "UNDEPLOY_FIREWALL" && part == "undeploy_enter.sh";
        let parts: Vec<_> = parts.iter().copied().filter(|part| !enters(part)).collect();
        assert_eq!(after, parts, "{name}: what {last} says that it comes after");
    }
}

#[test]
fn callers_give_each_script_the_parameters_that_its_parts_declare() {
    let callers = callers();
    for (name, files) in TABLE {
        let (mut required, mut declared) = (BTreeSet::new(), BTreeSet::new());
        for file in *files {
            let head = Head::read(&script(file));
            declared.extend(head.required.iter().chain(&head.optional).cloned());
            required.extend(head.required);
        }
        let functions: Vec<_> = callers.iter().filter(|(caller, _)| caller == name).collect();
        assert!(!functions.is_empty(), "nobody sends {name}");
        for (_, function) in functions {
            let given = given(function);
            let missing: Vec<_> = required.difference(&given).collect();
            let undeclared: Vec<_> = given.difference(&declared).collect();
            assert!(
                missing.is_empty() && undeclared.is_empty(),
                "{name}: {missing:?} missing, {undeclared:?} undeclared"
            );
        }
    }
}

#[test]
fn each_script_is_sent_and_uses_the_parameters_that_it_declares() {
    for entry in fs::read_dir(source().join("scripts")).expect("the scripts") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        if !name.ends_with(".sh") || STARTERS.contains(&name.as_str()) {
            continue;
        }
        assert!(TABLE.iter().any(|(_, files)| files.contains(&name.as_str())), "nobody sends {name}");
        let mut text = script(&name);
        let head = Head::read(&text);
        text.extend(head.after.iter().map(|part| script(part)));
        for parameter in head.required.iter().chain(&head.optional) {
            let uses = [format!("${parameter}"), format!("${{{parameter}")];
            assert!(uses.iter().any(|used| text.contains(used)), "{name} doesn't use {parameter}");
        }
    }
}

/// What the job of the project's CI does with one of its functions and these files, which are in its folder.
fn run_in_ci(function: &str, shell: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let text = script("ci_deploy.sh");
    let from = text.find(&format!("\n{function}() {{")).expect("the function");
    let function = &text[from..from + text[from..].find("\n}\n").expect("its end") + 3];
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join(".slipway")).expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let mut command = std::process::Command::new("sh");
    command.args(["-euc", &shell.replace("FUNCTION", function)]).current_dir(folder.path());
    let output = command.output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (folder, String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What CI's job shows of containers' logs goes to nobody who masks it.
#[test]
fn no_secret_of_the_env_file_and_none_that_it_covers_is_shown_to_ci() {
    let env = "APP_SECRET_KEY=\"given \\\"1\\\"\"\nLIMIT=\"123456\"\n# before APP_SECRET_KEY=\"drawn-1\"\n\
               # before PAGER=\"pager-1\"\n# before LIMIT=\"654321\"\nA_TOKEN=\"secret\"\nB_TOKEN=\"secret-and-more\"\n\
               TLS_KEY=\"-----BEGIN KEY-----\\r\\nMIIEvery\\\\nsecret\\r\\n-----END KEY-----\\n\"\n";
    let hidden = crate::secrets::hidden_names::hidden_names();
    let files = [(".slipway/sealed", "PAGER\nTLS_KEY\n"), (".env", env)];
    for (told, shown) in [
        ("given \"1\" 123456 drawn-1 pager-1 654321", "[redacted] 123456 [redacted] [redacted] 654321\n"),
        ("x secret y secret-and-more z", "x [redacted] y [redacted] z\n"),
        ("-----BEGIN KEY-----\nMIIEvery\\nsecret\n-----END KEY-----", "[redacted]\n[redacted]\n[redacted]\n"),
    ] {
        let shell = format!("hidden='{hidden}'\nFUNCTION\nprintf '%s\\n' '{told}' | without_secrets");
        assert_eq!(run_in_ci("without_secrets", &shell, &files).1, shown);
    }
}

/// A database under another name would be made anew.
#[test]
fn a_push_moves_the_projects_own_images_on_and_leaves_others_where_they_are() {
    let digest = format!("@sha256:{}", "0123456789abcdef".repeat(4));
    let env = |by_commit: &str, pinned: &str, by_digest: &str| {
        format!(
            "BACKEND_IMAGE=\"ghcr.io/acme/my.shop-backend{by_commit}\"\nBOT_IMAGE=\"ghcr.io/acme/my.shop-bot{pinned}\"\n\
             WEB_IMAGE=\"ghcr.io/acme/my.shop-web{by_digest}\"\nCACHE_IMAGE=\"redis{digest}\"\n\
             DB_IMAGE=\"postgres:16{digest}\"\nOTHER_IMAGE=\"ghcr.io/acme/my-shop-x:sha-0123456\"\n\
             NOTE=\"ghcr.io/acme/my.shop-backend:sha-0123456\"\n# before DB_IMAGE=\"postgres:15{digest}\"\n"
        )
    };
    let before = env(":sha-0123456", &format!(":sha-0123456{digest}"), &digest);
    let shell = "own_images='ghcr.io/acme/my.shop-'\ndocker_login() { :; }\ndocker_logout() { :; }\n\
                 pull_modules() { :; }\nFUNCTION\npull_latest";
    let (folder, _) = run_in_ci("pull_latest", shell, &[(".env", &before)]);
    let after = fs::read_to_string(folder.path().join(".env")).expect("the file");
    assert_eq!(after, env(":latest", ":latest", ""));
}

/// Runs the sweep over a project whose files `prepare` makes; gives what it tells.
fn sweep(prepare: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let shell = format!(
        "mkdir -p shop outside; echo 'x hunter2-7c1d y' >outside/theirs; root=$PWD slug=shop needles=$(echo hunter2-7c1d | base64)\n\
         tell() {{ printf '%s %s\\n' \"$1\" \"$2\"; }}\ndir=$root/$slug\ncd shop\nmkdir -p .git .slipway/served infra data\n{prepare}\n{}\n\
         sweep_project",
        script("leak_sweep.sh")
    );
    let output = std::process::Command::new("sh").args(["-euc", &shell]).current_dir(folder.path()).output();
    let output = output.expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let place = format!("{}/", folder.path().join("shop").display());
    String::from_utf8_lossy(&output.stdout).lines().map(|line| line.replace(&place, "")).collect()
}

#[test]
fn the_sweep_finds_secrets_in_every_file_and_follows_no_link() {
    let prepare = "secret() { cat ../outside/theirs; }\numask 077\n\
        ln -s / root; ln -s ../outside x; ln -s ../../outside data/y; ln -s ../../outside .git/hooks; mkfifo data/pipe\n\
        secret >.env; secret >infra/.env.prod; secret >.slipway/served/env; ln -s ../.env infra/.env\n\
        secret >'data/two words'; secret >..hidden; secret >\"$(printf 'data/a\\nb')\"; secret >.slipway/put; secret >.git/config";
    let found = ["leak data/two words", "leak ..hidden", "leak data/a?b", "leak .slipway/put", "leak .git/config"];
    assert_eq!(sweep(prepare), found.map(str::to_owned).into());
    assert_eq!(
        sweep("rm -r .git; ln -s ../outside .git; cat ../outside/theirs >infra/.env.prod; chmod 644 infra/.env.prod"),
        ["leak infra/.env.prod, which others may read".to_owned()].into()
    );
}

/// Grep keeps a whole line in memory.
#[test]
fn a_file_without_lines_takes_no_memory_of_the_server_and_is_told() {
    assert_eq!(sweep("truncate -s 3G data/zeros"), ["sweep incomplete".to_owned()].into());
}

/// What a shell prints with these parts.
pub(super) fn shell(parts: &[&str], text: &str) -> String {
    let parts: String = parts.iter().map(|part| script(part)).collect();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-euc", &format!("{parts}\n{text}")])
        .env("HTTPS_PROXY", "http://u:p@x")
        .env("DOCKER_AUTH_CONFIG", "x");
    let output = command.env("DOCKER_HOST", "unix:///x").output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn whom_the_server_talks_to_behind_its_default_route_is_told_too() {
    let text = r#"slug=shop registry=ghcr.example:5000
        tell() { echo "$1 $2"; }
        docker() { echo br-own; }
        ip() { case "$*" in *10.9.0.2*) echo "10.9.0.2 dev br-own src 10.9.0.1" ;; *get*) echo "x via y dev eth0 src z" ;; esac; }
        getent() { [ "$2" = ghcr.example ] && printf '%s\n' '10.3.0.1 STREAM ghcr' '10.3.0.1 DGRAM' 'fd00::3 STREAM'; }
        ss() { printf '0 0 %s:22 %s users:(("%s",pid=1,fd=4))\n' 10.0.0.1 10.1.2.3:4000 sshd \
            '[::ffff:10.0.0.1]' '[::ffff:10.1.2.4]:5' sshd-session '[fd00::1]' '[fd00::9]:6' sshd 10.0.0.1 10.9.0.2:1 sshd \
            10.0.0.1 10.8.8.8:7 postgres; }
        tell_routes"#;
    let told = shell(&["judged.sh"], text);
    let told: BTreeSet<&str> = told.lines().filter(|line| line.starts_with("route ")).collect();
    for place in ["10.1.2.3", "10.1.2.4", "fd00::9", "10.3.0.1", "fd00::3"] {
        assert!(told.contains(format!("route {place}").as_str()), "{place}: {told:?}");
    }
    for place in ["10.8.8.8", "10.9.0.2"] {
        assert!(!told.contains(format!("route {place}").as_str()), "{place}: {told:?}");
    }
}

/// A container that names a variable without a value gets what compose has.
#[test]
fn compose_knows_nothing_of_the_servers_own_environment_that_may_be_secret() {
    let bin = tempfile::tempdir().expect("a folder");
    let text = format!(
        "mkdir {0}/bin; printf '#!/bin/sh\\nenv\\n' >{0}/bin/docker; chmod +x {0}/bin/docker; PATH={0}/bin:$PATH\n\
         slug=shop env_file=/dev/null; compose up",
        bin.path().display()
    );
    let seen = shell(&["compose_call.sh"], &text);
    assert!(seen.contains("DOCKER_HOST=unix:///x") && seen.contains("PATH="), "{seen}");
    assert!(!seen.contains("PROXY") && !seen.contains("DOCKER_AUTH_CONFIG"), "{seen}");
}
