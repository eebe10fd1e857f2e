//! Scripts on servers that are set up in unusual ways, in a real shell beside programs that answer as those servers' do.
#![expect(clippy::expect_used, reason = "tests")]

use std::fs;

use super::tests::{script, shell};

#[test]
fn a_login_keeps_what_docker_is_told_on_the_server_but_for_others_credentials() {
    let home = tempfile::tempdir().expect("a folder");
    let config = r#"{"auths": {"other.example": {"auth": "dTpw"}}, "credsStore": "pass", "CredHelpers": {"ghcr.io": "x"},
        "proxies": {"default": {"httpsProxy": "http://p:3128/a\"}{,[", "noProxy": "a,b"}}, "list": [{"a": 1}, "]"]}"#;
    fs::create_dir_all(home.path().join(".docker/cli-plugins")).expect("a folder");
    fs::write(home.path().join(".docker/config.json"), config).expect("a file");
    let text = format!(
        "HOME={0}; slug=unusual-{1} registry=ghcr.io auth=dTpwdw==; unset DOCKER_CONFIG\ndocker_login\n\
         cat $DOCKER_CONFIG/config.json; readlink $DOCKER_CONFIG/cli-plugins; docker_logout; docker_logout\n\
         echo \"${{DOCKER_CONFIG-unset}}\"; DOCKER_CONFIG=$HOME/.docker; docker_login; docker_logout; docker_logout\n\
         auth=; docker_login; docker_logout; echo $DOCKER_CONFIG; ls {0}/.docker; ls -d /dev/shm/slipway.$slug.* || :",
        home.path().display(),
        std::process::id()
    );
    let place = home.path().display();
    let expected = format!(
        "{{\"proxies\":{{\"default\":{{\"httpsProxy\":\"http://p:3128/a\\\"}}{{,[\",\"noProxy\":\"a,b\"}}}},\"list\":[{{\"a\":1}},\"]\"],\
         \"auths\":{{\"ghcr.io\":{{\"auth\":\"dTpwdw==\"}}}}}}\n{place}/.docker/cli-plugins\nunset\n{place}/.docker\n\
         cli-plugins\nconfig.json\n"
    );
    assert_eq!(shell(&["docker_login.sh"], &text), expected);
    // One that can't be read, and none at all.
    for config in ["{\"proxies\": {", "null", "[]", "{}", ""] {
        fs::write(home.path().join(".docker/config.json"), config).expect("a file");
        let text = format!(
            "HOME={place}; slug=unusual-x registry=docker.io auth=dTpw; docker_login; cat $DOCKER_CONFIG/config.json; docker_logout"
        );
        let only = "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"}}}\n";
        assert_eq!(shell(&["docker_login.sh"], &text), only, "{config}");
    }
}

#[test]
fn keys_are_where_sshd_looks_first() {
    for (configured, found) in [
        ("", "HOME/.ssh/authorized_keys"),
        ("port 22\nauthorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2", "HOME/.ssh/authorized_keys"),
        ("authorizedkeysfile /etc/ssh/keys/%u", "/etc/ssh/keys/ann"),
        ("authorizedkeysfile %h/keys/100%%-%U /etc/ssh/%u", "HOME/keys/100%-1234"),
        ("authorizedkeysfile none", ""),
    ] {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().display().to_string();
        let text = format!(
            "id() {{ echo 1234; }}; getent() {{ echo ann:x:1:1::{home}:/bin/sh; }}; SUDO_USER=ann\n\
             ask_sshd() {{ printf '%s\\n' '{configured}'; }}; find_keys; echo \"$keys\""
        );
        assert_eq!(shell(&["authorized_keys.sh"], &text).trim_end(), found.replace("HOME", &home), "{configured}");
    }
}

#[test]
fn the_way_to_a_host_is_told_address_by_address() {
    let text = "tell() { echo \"$1 $2\"; }; timeout() { shift; \"$@\"; }\n\
        getent() { printf '%s\\n' '10.0.0.1 STREAM x' '10.0.0.1 DGRAM' 'fd00::1 STREAM'; }\n\
        ip() { [ \"$3\" = fd00::1 ]; }\ntell_reach x.example; getent() { return 2; }; tell_reach y.example; echo on";
    let told = "asked x.example\nunrouted 10.0.0.1\nrouted fd00::1\nasked y.example\non\n";
    assert_eq!(shell(&["reach.sh"], text), told);
}

#[test]
fn a_firewall_that_judges_docker_gets_a_rule_for_each_port_in_the_projects_networks() {
    let text = "slug=shop; tell() { echo \"$1 $2\"; }; project_ps() { echo c1; }; judges_docker() { true; }\n\
        docker() { case \"$*\" in *'network ls'*) echo n1 ;; *'network inspect'*) printf '%s\\n' 172.18.0.0/16 fd00::/64 '' ;;\n\
        *) printf '%s\\n' '8000/tcp 8080' '8000/tcp 8080' '53/udp 8080' '5432/tcp 15432' ;; esac; }\n\
        ufw() { echo \"ufw $*\"; }\n\
        added=\"ufw allow 8080/tcp comment 'slipway:shop'\nufw route allow to 172.18.0.0/16 port 8000 proto tcp comment 'slipway:shop'\n\
        ufw route allow to 172.30.0.0/16 port 8000 proto tcp comment 'slipway:shop'\n\
        ufw route allow to 172.31.0.0/16 port 8000 proto tcp comment 'slipway:other'\"\n\
        set_routes '80 8080' 2>&1; echo --; set_routes '' 2>&1; echo --; added=; judges_docker() { false; }; set_routes 8080";
    let told = "ufw route allow proto tcp to fd00::/64 port 8000 comment slipway:shop\nadded 8000 in fd00::/64\n\
        ufw route delete allow proto tcp to 172.30.0.0/16 port 8000\nremoved 8000 in 172.30.0.0/16\n--\n\
        ufw route delete allow proto tcp to 172.18.0.0/16 port 8000\nremoved 8000 in 172.18.0.0/16\n\
        ufw route delete allow proto tcp to 172.30.0.0/16 port 8000\nremoved 8000 in 172.30.0.0/16\n--\n";
    assert_eq!(shell(&["ufw_rules.sh", "ufw_routes.sh"], text), told);
}

/// Btrfs counts none.
#[test]
fn a_file_system_without_a_count_of_inodes_has_none_that_could_run_out() {
    let place = tempfile::tempdir().expect("a folder");
    let stubs = format!(
        "root={0} slug=shop registry=x ports= web_ports= front={0} front_container=x bindings=\n\
         tell() {{ case $1 in inodes) echo \"$2\" ;; esac; }}\n\
         df() {{ case $1 in -Pi) printf '%s\\n' head '/dev/sda 0 0 0 - /' ;; *) printf 'head\\n/dev/sda 9 1 8 1%% /\\n' ;; esac; }}\n\
         stat() {{ shift 3; for place in \"$@\"; do echo '8 1024 0 0'; done; }}\nprove() {{ false; }}\ncheck_owner() {{ :; }}\ntell_holders() {{ :; }}\ntell_emulated() {{ :; }}\n\
         timeout() {{ :; }}\ndocker() {{ :; }}\nss() {{ :; }}\n",
        place.path().display()
    );
    for name in ["server_facts.sh", "preflight.sh"] {
        assert_eq!(shell(&["prove.sh"], &(stubs.clone() + &script(name))), "-\n-\n", "{name}");
    }
}

#[test]
fn what_the_kernel_lets_qemu_run_is_told_where_it_is_switched_on() {
    let formats = tempfile::tempdir().expect("a folder");
    let told = || {
        let text = format!("tell() {{ echo \"$1 $2\"; }}; tell_emulated {}", formats.path().display());
        shell(&["prove.sh"], &text)
    };
    assert_eq!(told(), "emulates \n");
    for (name, state) in
        [("qemu-aarch64", "enabled"), ("qemu-arm", "disabled"), ("qemu-x86_64", "enabled"), ("python3", "enabled")]
    {
        fs::write(formats.path().join(name), format!("{state}\ninterpreter /usr/bin/x\n")).expect("a file");
    }
    assert_eq!(told(), "emulates aarch64 x86_64\n");
}

#[test]
fn compose_is_started_as_docker_starts_it_unless_docker_is_a_script() {
    let bin = tempfile::tempdir().expect("a folder");
    let bin = bin.path().display();
    let text = format!(
        "printf '#!/bin/sh\\necho ran \"$@\"; env\\n' >{bin}/plugin; chmod +x {bin}/plugin; compose_program() {{ echo {bin}/plugin; }}\n\
         PATH={bin}:$PATH slug=shop env_file=/dev/null; cp \"$(command -v env)\" {bin}/docker; compose up | grep -E '^(ran|[A-Z_]*)( |=)'\n\
         cp {bin}/plugin {bin}/docker; echo --; compose up; echo $HTTPS_PROXY"
    );
    let seen = shell(&["compose_call.sh"], &text);
    let (direct, scripted) = seen.split_once("--\nran").expect("two calls");
    for (said, first) in [(direct, "ran compose"), (scripted, " compose")] {
        assert!(said.starts_with(&format!("{first} --project-name shop --env-file /dev/null up\n")), "{said}");
        assert!(said.contains("COMPOSE_IGNORE_ORPHANS=false") && said.contains("DOCKER_HOST=unix:///x"), "{said}");
        assert!(!said.contains("HTTPS_PROXY="), "{said}");
        assert_eq!(said.contains("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND=docker"), first == "ran compose");
    }
    assert!(scripted.ends_with("http://u:p@x\n"), "the script itself keeps its own");
}
