//! How a deployment has left the server, compared with how it is now: what has to be the same for which stage to be
//! proven. No I/O: the lines are `scripts/as_left.sh`'s, and asking is done in `unchanged`.

use data_encoding::HEXLOWER;
use ring::digest;
use slipway_protocol::{Replacement, ReplacementWay, ServiceReport};

use super::compose::parse_service;
use crate::remote::output::ScriptOutput;

/// Seconds by which the time of the server's start may differ: it's rounded, and a clock that was set differs by more.
const CLOCK_STEP: u64 = 2;

/// The server as a script tells it: how it was left, and how it is.
pub(super) struct ServerState<'a> {
    was: &'a [String],
    now: &'a [String],
    touched: &'a [String],
}

impl<'a> ServerState<'a> {
    pub(super) fn read(output: &'a ScriptOutput) -> Self {
        Self { was: output.values("was"), now: output.values("now"), touched: output.values("touched") }
    }

    /// What isn't as the stages up to compose have left it, or isn't well; `None`: they would change nothing. `proof`: a digest
    /// of what stage compose has found stable.
    pub(super) fn release_differs(&self, proof: &str) -> Option<&'static str> {
        let first = |kind: &str| self.now.iter().any(|line| is_of(line, kind));
        if !(first("daemon") && first("container")) || first("gone") {
            return Some("the containers or Docker's daemon can't be seen");
        }
        let booted = |lines: &[String]| {
            let line = lines.iter().find_map(|line| line.strip_prefix("booted "));
            line.and_then(|seconds| seconds.parse::<u64>().ok())
        };
        match (booted(self.was), booted(self.now)) {
            (Some(was), Some(now)) if was.abs_diff(now) <= CLOCK_STEP => {}
            _ => return Some("the server's clock was set"),
        }
        // However it was left: nobody is served by a door that doesn't listen.
        if self.now.iter().any(|line| is_of(line, "door") && line.ends_with(" deaf")) {
            return Some("the front door doesn't listen");
        }
        if self.is_touched("release") {
            return Some("a file was changed");
        }
        let kinds = [
            ("boot", "the server was started anew"),
            ("daemon", "Docker's daemon was started anew"),
            ("at_clone", "the files were looked at by another deployment"),
            ("at_env", "the variables were looked at by another deployment"),
            ("listed", "there are other containers, or their images' tags have moved"),
            ("container", "a container isn't as it was"),
            ("beside", "a container isn't as it was"),
            ("published", "other ports are published"),
            ("door", "the front door isn't as it was"),
            ("writable", "containers may write elsewhere"),
        ];
        if let Some((_, why)) = kinds.iter().find(|(kind, _)| !self.is_same(kind)) {
            return Some(why);
        }
        if self.starts_digest() != proof {
            return Some("a container was started anew, or went, after it was found stable");
        }
        let ill = self.containers().any(|container| !is_well(container));
        ill.then_some("a service isn't healthy")
    }

    /// Whether the firewall's rules about the project are as they were left.
    pub(super) fn firewall_is_same(&self) -> bool {
        self.is_same("ufw") && self.is_same("rule") && !self.is_touched("rules")
    }

    /// Whether what CI logs in with is as it was left.
    pub(super) fn access_is_same(&self) -> bool {
        self.is_same("access") && !self.is_touched("key")
    }

    /// The services, as stage compose reports them.
    pub(super) fn services(&self) -> Vec<ServiceReport> {
        let reported = |line: &str| {
            let columns: Vec<&str> = line.split(' ').collect();
            let [service, state, health, restarts, code, _, image, ..] = columns[..] else { return None };
            let service = parse_service(&[service, state, health, restarts, code, image].join(" "))?;
            let replaced = Some(Replacement { how: ReplacementWay::Kept, why: None, gap_ms: None });
            Some(ServiceReport { replaced, ..service })
        };
        self.containers().filter_map(reported).collect()
    }

    /// As `proofs.sh` makes it.
    fn starts_digest(&self) -> String {
        let line = |container: &str| {
            let columns: Vec<&str> = container.split(' ').collect();
            let [_, _, _, restarts, _, started, _, _, id, ..] = columns[..] else { return String::new() };
            format!("{id} {restarts} {started}\n")
        };
        let mut lines: Vec<String> = self.containers().map(line).collect();
        lines.sort();
        HEXLOWER.encode(digest::digest(&digest::SHA256, lines.concat().as_bytes()).as_ref())
    }

    fn containers(&self) -> impl Iterator<Item = &'a str> {
        self.now.iter().filter_map(|line| line.strip_prefix("container "))
    }

    /// What Docker publishes, a line each as stage firewall's script tells it.
    pub(super) fn published(&self) -> impl Iterator<Item = &'a str> {
        self.now.iter().filter_map(|line| line.strip_prefix("published "))
    }

    fn is_touched(&self, what: &str) -> bool {
        self.touched.iter().any(|touched| touched == what)
    }

    fn is_same(&self, kind: &str) -> bool {
        // Docker tells a container's mounts in any order.
        let of = |lines: &'a [String]| {
            let mut lines: Vec<_> = lines.iter().filter(|line| is_of(line, kind)).collect();
            lines.sort();
            lines
        };
        of(self.was) == of(self.now)
    }
}

fn is_of(line: &str, kind: &str) -> bool {
    line.split(' ').next() == Some(kind)
}

/// As the stability gate would find it, which has found these very starts to last: `SERVICE STATE HEALTH RESTARTS EXIT_CODE
/// STARTED IMAGE POLICY …`.
fn is_well(container: &str) -> bool {
    let columns: Vec<&str> = container.split(' ').collect();
    let [_, state, health, _, code, _, _, policy, ..] = columns[..] else { return false };
    match state {
        "exited" => code == "0" && policy != "unless-stopped",
        _ => state == "running" && matches!(health, "-" | "healthy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: &str = "boot 7f\nbooted 1000\ndaemon 77 4242\nat_clone 7f 3\nat_env 7f 3\nlisted ab running a/b:sha-0123456\n\
        container backend running healthy 0 0 1970-01-01T01:00:00.5Z a/b:sha-0123456 unless-stopped ab sha256:1 net\n\
        container migrate exited - 0 0 1970-01-01T01:00:00.5Z a/b:sha-0123456 no cd sha256:1\n\
        published backend 8000/tcp 0.0.0.0 8080\nwritable /opt/services/shop/data\nwritable /opt/services/shop/x\ndata /var/lib/docker/x\n\
        door 8080 a 20000 20001\nufw present\naccess /opt/services/shop/.slipway/ci-deploy\nrule user.rules:allow 8080\naccess keys:line";
    /// Of `ID RESTARTS STARTED` of both containers, a line each.
    const PROOF: &str = "e0df0799b4ee5f60afe2b6982e594de993dcec8b2ab77e2e3b15839e4e3c9b2d";

    /// What is found out where `change` has happened to a server that was left as above.
    fn found(change: impl Fn(&str) -> String, touched: &[&str]) -> (bool, bool, bool) {
        let mut output = ScriptOutput::default();
        let mut tell = |key: &str, value: &str| {
            assert_eq!(output.take_line("m", format!("m {key} {value}").as_bytes()), None);
        };
        LEFT.lines().for_each(|line| tell("was", line));
        change(LEFT).lines().for_each(|line| tell("now", line));
        touched.iter().for_each(|what| tell("touched", what));
        let state = ServerState::read(&output);
        (state.release_differs(PROOF).is_none(), state.firewall_is_same(), state.access_is_same())
    }

    #[test]
    fn what_is_as_it_was_left_is_proven_and_each_thing_that_is_not_is_found() {
        assert_eq!(found(str::to_owned, &[]), (true, true, true));
        assert_eq!(found(|left| left.replace("booted 1000", "booted 1001"), &[]), (true, true, true));
        let other_order = "writable /opt/services/shop/x\nwritable /opt/services/shop/data";
        let order = "writable /opt/services/shop/data\nwritable /opt/services/shop/x";
        assert_eq!(found(|left| left.replace(order, other_order), &[]), (true, true, true));
        assert_eq!(found(str::to_owned, &["key"]), (true, true, false));
        assert_eq!(found(str::to_owned, &["rules"]), (true, false, true));
        assert_eq!(found(str::to_owned, &["release"]), (false, true, true));
        let release = [
            ("boot 7f", "boot 80"),
            ("booted 1000", "booted 1060"),
            ("booted 1000\n", ""),
            ("daemon 77", "daemon 78"),
            ("daemon 77 4242\n", ""),
            ("at_env 7f 3", "at_env 7f 4"),
            ("at_clone 7f 3", "at_clone 7f 4"),
            ("listed ab running a/b:sha-0123456", "listed ab running sha256:1"),
            ("listed ab", "listed ef running redis\nlisted ab"),
            ("healthy 0 0", "unhealthy 0 0"),
            ("healthy 0 0", "healthy 1 0"),
            ("running healthy", "exited healthy"),
            ("01:00:00.5Z a/b:sha-0123456 unless", "02:00:00.5Z a/b:sha-0123456 unless"),
            ("sha256:1 net", "sha256:1"),
            ("0.0.0.0 8080", "0.0.0.0 8081"),
            ("shop/data", "shop/other"),
            ("published", "gone\npublished"),
            ("door 8080 a", "door 8080 b"),
            ("door 8080 a", "door 8080 deaf\ndoor 8080 a"),
            ("door 8080 a 20000 20001\n", ""),
        ];
        for (from, to) in release {
            assert!(!found(|left| left.replacen(from, to, 1), &[]).0, "{to}");
        }
        for (from, to) in
            [("ufw present", "ufw absent"), ("rule user.rules:allow 8080\n", ""), ("allow 8080", "deny 8080")]
        {
            assert_eq!(found(|left| left.replace(from, to), &[]), (true, false, true), "{to}");
        }
        for from in ["access keys:line", "access /opt/services/shop/.slipway/ci-deploy\n"] {
            assert_eq!(found(|left| left.replace(from, ""), &[]), (true, true, false), "{from}");
        }
    }

    /// The record is written after verify.
    #[test]
    fn what_was_started_anew_before_it_was_written_down_proves_nothing() {
        let mut output = ScriptOutput::default();
        for line in LEFT.lines().flat_map(|line| [format!("m was {line}"), format!("m now {line}")]) {
            assert_eq!(output.take_line("m", line.as_bytes()), None);
        }
        let state = ServerState::read(&output);
        assert_eq!(state.release_differs(PROOF), None);
        for other in [&PROOF.replacen('0', "1", 1), ""] {
            let why = "a container was started anew, or went, after it was found stable";
            assert_eq!(state.release_differs(other), Some(why), "{other}");
        }
    }

    #[test]
    fn a_server_that_was_left_ill_proves_nothing() {
        let at = |state: &str| format!("backend {state} 1970-01-01T01:00:00Z a/b unless-stopped ab sha256:1");
        for (state, well) in [
            ("running healthy 0 0", true),
            ("running - 3 0", true),
            ("running starting 0 0", false),
            ("running unhealthy 0 0", false),
            ("exited - 0 0", false),
            ("restarting - 0 0", false),
        ] {
            assert_eq!(is_well(&at(state)), well, "{state}");
        }
        assert!(is_well("migrate exited - 0 0 x a/b no ab") && !is_well("migrate exited - 0 1 x a/b no ab"));
        assert!(!is_well(""));
    }
}
