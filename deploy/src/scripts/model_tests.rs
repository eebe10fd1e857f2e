//! What the scripts read out of compose's model, and make of it before it's started.
#![expect(clippy::expect_used, reason = "tests")]

use std::fmt::Write as _;

use super::tests::script;
use crate::project::compose_program::try_run;

const PARTS: [&str; 3] = ["project_files.sh", "compose_call.sh", "containers.sh"];

/// What a shell prints with these parts.
fn shell(parts: &[&str], text: &str) -> String {
    let parts: String = parts.iter().map(|part| script(part)).collect();
    let text = format!("root=/srv slug=shop\n{parts}\n{text}");
    let output = std::process::Command::new("sh").args(["-euc", &text]).output().expect("a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the parts print with a model as compose prints it, of these services, in a project with this override file.
fn with_model(services: &serde_json::Value, overrides: &str, parts: &[&str], text: &str) -> String {
    let model = serde_json::json!({ "name": "shop", "networks": { "default": { "name": "shop_default" } },
        "services": services, "volumes": { "pull_policy": { "name": "shop_x" } } });
    let model = serde_json::to_string_pretty(&model).expect("JSON");
    let text = format!(
        "override=$(mktemp)\ncat >$override <<'END'\n{overrides}\nEND\nslot_edits() {{ edits=; }}\nmodel=$(cat <<'END'\n{model}\nEND\n)\n{text}\nrm $override"
    );
    shell(&[&PARTS[..], parts].concat(), &text)
}

#[test]
fn what_was_pulled_once_isnt_pulled_again_when_nobody_is_logged_in() {
    let services = serde_json::json!({
        "backend": { "image": "a", "pull_policy": "always" },
        "db": { "image": "b" },
        "local": { "image": "c", "pull_policy": "never" },
        "proxy": { "image": "d", "pull_policy": "every_12h" },
        "worker": { "image": "e", "pull_policy": "missing" },
    });
    let pulled = |policy: &str| {
        let text = format!("project_compose() {{ echo \"$pulling: $*\"; }}\npull_images {policy} backend bot");
        with_model(&services, "", &[], &text)
    };
    let but_local = "backend db proxy worker";
    assert_eq!(
        pulled("missing"),
        format!("yes: pull -q --policy missing {but_local}\nyes: pull -q proxy\n"),
        "the backend is the release, and an image that is to be here already is asked of nobody"
    );
    assert_eq!(pulled("always"), format!("yes: pull -q --policy always {but_local}\n"));
    let started = with_model(&services, "", &[], "started_model");
    let started: serde_json::Value = serde_json::from_str(&started).expect("JSON");
    let policies = ["backend", "local", "proxy", "worker"].map(|name| started["services"][name]["pull_policy"].clone());
    assert_eq!(policies, ["missing", "never", "missing", "missing"]);
    let none = serde_json::json!({ "db": { "image": "b" } });
    let text = "project_compose() { echo \"$*\"; }\npull_images always";
    assert_eq!(with_model(&none, "", &[], text), "pull -q --policy always\n");
    let failing = "project_compose() { return 1; }\npull_images always || echo failed \"${pulling:-}\"";
    assert_eq!(with_model(&none, "", &[], failing), "failed \n");
}

#[test]
fn services_that_are_left_alone_are_known_to_compose_and_to_nobody_else() {
    let services = serde_json::json!({ "db": { "image": "b" } });
    let overrides =
        "# Written by Slipway at every deployment; changes are lost.\n# Left alone: adminer pg-admin\nservices:\n";
    let folder = tempfile::tempdir().expect("a folder");
    let started = with_model(&services, overrides, &[], "started_model");
    std::fs::write(folder.path().join("model.json"), started).expect("a file");
    let ask = |profile: &str| {
        let asked = try_run(folder.path(), &["-f", "model.json", "--profile", profile, "config", "--services"]);
        let asked = String::from_utf8(asked.expect("a model")).expect("text");
        let mut names: Vec<_> = asked.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(ask("none"), ["db"]);
    assert_eq!(ask("*"), ["adminer", "db", "pg-admin"], "so that they are no orphans");

    let docker = r#"docker() {
            case "$*" in
            *-q*) printf '%s\n' a1 b2 ;;
            *) printf '%s\n' 'a1 db' 'b2 adminer' ;;
            esac
        }
        echo $(containers)
        present='a1 db False running shop-db-1 x
b2 adminer False exited shop-adminer-1 y
'
        alone=$(left_alone)
        seen_of
        echo "$ids"
        seen_of adminer
        echo "$ids""#;
    assert_eq!(with_model(&services, overrides, &[], docker), "a1\na1 \nb2 \n");
    assert_eq!(with_model(&services, "services:", &[], docker), "a1 b2\na1 b2 \nb2 \n");
}

#[test]
fn what_cannot_run_twice_is_not_tried_beside_itself() {
    let on = |options: serde_json::Value| serde_json::json!({ "image": "x", "networks": { "n": options } });
    let services = serde_json::json!({
        "plain": on(serde_json::Value::Null),
        "named": on(serde_json::json!({ "aliases": ["ipv4_address"] })),
        "four": on(serde_json::json!({ "ipv4_address": "10.0.0.9" })),
        "six": on(serde_json::json!({ "ipv6_address": "fd00::9" })),
        "mac": on(serde_json::json!({ "mac_address": "02:42:ac:11:65:43" })),
        "local": on(serde_json::json!({ "link_local_ips": ["57.1.1.1"] })),
        "host": { "image": "x", "network_mode": "host" },
        "joined": { "image": "x", "network_mode": "service:plain" },
        "alone": { "image": "x", "network_mode": "none" },
    });
    let names: Vec<&str> = services.as_object().expect("services").keys().map(String::as_str).collect();
    let text = names.iter().fold(String::new(), |mut text, name| {
        let _ = writeln!(text, "if stands_alone {name}; then echo {name}; fi");
        text
    });
    let found = with_model(&services, "", &["service_report.sh", "stability_gate.sh", "rehearse.sh"], &text);
    assert_eq!(found.lines().collect::<Vec<_>>(), ["four", "host", "joined", "local", "mac", "six"]);
}

#[test]
fn patience_follows_the_projects_own_health_check() {
    let second = 1_000_000_000_u64;
    let rows = [
        // No check, Docker's own interval, a short one, one of five minutes, many tries, a start period, more than anybody waits.
        (0, 0, 0, 180),
        (0, 5 * second, 0, 180),
        (0, 300 * second, 1, 300),
        (0, 300 * second, 0, 600),
        (0, 10 * second, 30, 300),
        (60 * second, 300 * second, 1, 360),
        (40_000 * second, 40_000 * second, 3, 1200),
    ];
    for (period, interval, tries, lasting) in rows {
        let text = format!("patience=180\nread_patience {period}/{interval}/{tries}\necho $lasting");
        let said = shell(&["service_report.sh", "stability_gate.sh"], &text);
        assert_eq!(said.trim(), lasting.to_string(), "{period} {interval} {tries}");
    }
    let said = shell(
        &["service_report.sh", "stability_gate.sh"],
        "patience=0\nread_patience 3000000000/9000000000/3\necho $lasting",
    );
    assert_eq!(said.trim(), "3", "where nobody waits, only for a start that still goes on");
}

#[test]
fn what_others_wait_for_until_it_has_ended_comes_after_what_it_waits_for_itself() {
    let waits = |on: &str, condition: &str| serde_json::json!({ on: { "condition": condition, "required": true } });
    let ended = "service_completed_successfully";
    let services = serde_json::json!({
        "backend": { "depends_on": waits("assets", ended), "image": "a" },
        "assets": { "depends_on": waits("migrate", ended), "image": "a" },
        "bot": { "depends_on": waits("seed", ended), "image": "a" },
        "console": { "depends_on": waits("under_a_profile", ended), "image": "a" },
        "db": { "image": "b" },
        "migrate": { "depends_on": waits("db", "service_healthy"), "image": "a" },
        "seed": { "depends_on": waits("migrate", ended), "image": "a" },
    });
    let found = with_model(&services, "", &["one_shots.sh"], "find_firsts; echo $firsts");
    let mut found: Vec<&str> = found.split_whitespace().collect();
    assert_eq!(found.remove(0), "migrate");
    found.sort_unstable();
    assert_eq!(found, ["assets", "seed"]);
    let none =
        serde_json::json!({ "backend": { "depends_on": waits("db", "service_started") }, "db": { "image": "b" } });
    assert_eq!(with_model(&none, "", &["one_shots.sh"], "find_firsts; echo $firsts"), "\n");
}

#[test]
fn the_projects_own_model_and_its_variables_come_out_of_one_room() {
    let see = |both: &str, env: &str| {
        let text = format!(
            "cd $(mktemp -d); {env}; own_view() {{ case $1 in both) {both} ;; *) echo \"$*\" ;; esac; }}\n\
             tell() {{ echo \"$1 $2\"; }}; see_variables; printf '%s\\n' \"$project\"; tell_variables; echo $variables"
        );
        shell(&["own_view.sh"], &text)
    };
    let variables = r"NAME REQUIRED\nA true x\nB false\n}\nend\n";
    let both = |made: &str| format!("printf '{made}{variables}'");
    let told = "variable A true\nvariable B false\nNAME REQUIRED A true x B false } end\n";
    assert_eq!(see(&both(r#"yes\n{\n  "a": {\n  }\n}\n"#), "touch .env"), format!("{{\n  \"a\": {{\n  }}\n}}\n{told}"));
    assert_eq!(see(&both(r"no\n\n"), "touch .env"), format!("\n{told}"), "compose makes nothing of them");
    assert_eq!(see("false", "touch .env"), "marked --format json\n--variables\n");
    assert_eq!(see("echo yes", ":"), "\n--variables\n", "nothing is known of values");
}

#[test]
fn the_end_of_a_long_model_is_found_in_a_moment() {
    let model = "echo yes; echo '{'; yes '  \"a\": \"bbbbbbbbbbbbbbbbbbbbbb\",' | head -n 30000; printf '}\\nA true x\\nend\\n'";
    let text = format!(
        "cd $(mktemp -d); touch .env; own_view() {{ {model}; }}; tell() {{ echo \"$1 $2\"; }}\n\
         ulimit -t 10; see_variables; echo ${{#project}}; tell_variables"
    );
    assert_eq!(shell(&["own_view.sh"], &text), "990003\nvariable A true\n");
}
