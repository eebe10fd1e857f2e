//! The table of policies holds all of them.

use std::collections::BTreeSet;
use std::path::Path;

use slipway_worker::config::GROUPS;
use slipway_worker::policies::{self, PolicyValue};

/// Constants that look like policies and are none, by what they are.
const NO_POLICIES: &[&str] = &[
    // How long a registry has to tell its time, without which nothing is worse.
    "stages::clocks::ASK_TIME",
    // Paces and sizes of loops that nobody has to know.
    "stages::verify::PROBE_INTERVAL",
    "stages::verify::CONNECTION_LASTS",
    "stages::domains::LOOKUPS",
    "stages::domains::LOOKUP_TIME",
    "stages::domains::BETWEEN_LOOKUPS",
    "publish::wanted_page::BATCH",
    "publish::wanted_page::BYTES_BESIDE_MARKS",
    "publish::flow::PACE",
    "publish::relay_lease::TAKERS_SPREAD",
    "store::connection::listen::BETWEEN",
    "store::grouped::COMPANY_TIME",
    "store::connection::wakeups::ONE_ASKS",
    "store::connection::wakeups::LAST_ASKS",
    "run::claim_loop::AFTER_FAILURE",
    "placement::placer::AFTER_FAILURE",
    "placement::placer::WHILE_BUSY",
    "placement::server_asker::AFTER_FAILURE",
    "run::awake::INTERVAL",
    "process::heartbeat::AFTER_FAILURE",
    "process::heartbeat::SILENCE_SPREAD",
    "run::progress::FLUSH_DELAY",
    "housekeeping::HOUSEKEEPING_INTERVAL",
    "housekeeping::AFTER_FAILURE",
    "housekeeping::INDEX_POLL",
    "housekeeping::pace::REST",
    "housekeeping::pace::LEAST",
    "housekeeping::pace::MOST",
    "housekeeping::dead_letter_queue::MOVED",
    "store::retention::settings::DAY",
    "store::dead_letter::replay::LOOKED_AT",
    "store::deployment::queue::BETWEEN_TRIES",
    "store::deployment::give_up_held::END_LEASE",
    "intake::held::BETWEEN_REPORTS",
    "store::outbox::held_marks::MARK_LEASE",
    // How a database is found that may be on several hosts.
    "store::connection::hosts::HOST_PATIENCE",
    "store::connection::hosts::CONNECT_TIMEOUT",
    // Paces of what is made beside the work of others.
    "store::connection::migrations::LOCK_PATIENCE",
    "store::connection::client::LAST_WORDS",
    "store::connection::online::LOCK_PAUSE",
    "store::connection::indexes::MAKE_AGAIN",
    "store::connection::indexes::TELL_AFTER",
    "engine::SILENCE",
    "amqp::generations::STABLE_AFTER",
    "publish::flow::SEND_WINDOW",
    "publish::github_status::AFTER_FAILURE",
    "pushes::looker::AFTER_FAILURE",
    "scheduler::pushes::RUNS_PAUSE",
    "store::pushes::deliveries::LOOK_SPACING",
    "stages::serving::INTERVAL",
    "stages::serving::UNTOUCHED_WARM_UP",
    "amqp::connection::CLOSE_TIMEOUT",
    "amqp::connection::LEFT",
    "amqp::generations::REMIND_INTERVAL",
    "store::outbox::github_status::ANNOUNCEMENT_MAX_AGE",
    // The default of a setting.
    "store::deployment::versions::VERSIONS",
    // How a message is met that the database failed at.
    "intake::consumer::SERIAL_WINDOW",
    "intake::consumer::AWAY_TIMES",
    "intake::held::FIRST_DELAY",
    "intake::held::HELD_LEASE",
    "intake::held::FAILING_TIME",
    "intake::held::POLL",
    "intake::held::AFTER_FAILURE",
    "intake::held::NAMED",
    // How it's looked for halves whose time is over.
    "intake::missing_halves::BATCH",
    // The process's own end and its liveness.
    "main::DRAIN_GRACE",
    "main::TELEMETRY_FLUSH",
    "main::STUCK_AFTER",
    // What a script leaves of its own limit to tell how it ended.
    "attempt::REPORT_TIME",
    // Facts and bounds of parsers.
    "amqp::inbound::texts::BASIC",
    "amqp::topology::PRECONDITION_FAILED",
    "amqp::connection::FRAME_MAX",
    "remote::ssh::session::HANDSHAKE_ROUND_TRIPS",
    // Half a second, until sshd has seen that a session has ended.
    "remote::ssh::channels::PAUSE",
    "remote::ssh::channels::REFUSED",
    // A few kilobytes to a server that is connected.
    "remote::ssh::stream::SEND_TIME",
    "stages::secrets::SSH_PORT",
    "server_facts::WIDEST_RANGE",
    "config::parse::HOUR",
    "config::parse::SECOND",
];

/// `ssh::login::KEEPALIVE` and the like: the constants below `folder` whose type can be a policy's.
fn constants(folder: &Path, module: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() && name != "model" {
            constants(&path, &format!("{module}{name}::"), found);
        }
        let Some(stem) = name.strip_suffix(".rs") else { continue };
        let module = if stem == "mod" { module.to_owned() } else { format!("{module}{stem}::") };
        let text = std::fs::read_to_string(path).unwrap();
        let tests = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
        for line in text[..tests].lines() {
            let line = line.trim_start();
            let line = ["pub(crate) ", "pub(super) ", "pub "].iter().find_map(|p| line.strip_prefix(p)).unwrap_or(line);
            let Some((name, rest)) = line.strip_prefix("const ").and_then(|rest| rest.split_once(": ")) else {
                continue;
            };
            let kind = rest.split([' ', '=']).next().unwrap();
            if matches!(kind, "Duration" | "RetryPolicy" | "u16" | "u32")
                || (kind == "Self" && matches!(stem, "backoff" | "bounds"))
            {
                found.insert(format!("{module}{name}"));
            }
        }
    }
}

#[test]
fn every_constant_that_is_a_policy_is_in_the_table() {
    let mut found = BTreeSet::new();
    for folder in ["src", "../deploy/src"] {
        constants(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut found);
    }
    assert!(found.len() > 30, "{found:?}");
    let table = policies::all();
    let listed: BTreeSet<&str> = table.iter().flat_map(|group| &group.policies).filter_map(|p| p.constant).collect();
    let missing: Vec<_> =
        found.iter().filter(|c| !listed.contains(c.as_str()) && !NO_POLICIES.contains(&c.as_str())).collect();
    assert!(
        missing.is_empty(),
        "add them to worker/src/policies/mod.rs, or say in this test what they are: {missing:?}"
    );
    let gone = |name: &&&str| !name.starts_with("protocol::") && !found.contains(**name);
    let stale: Vec<_> = listed.iter().chain(NO_POLICIES).filter(gone).collect();
    assert!(stale.is_empty(), "no such constants: {stale:?}");
}

#[test]
fn every_setting_of_time_and_number_is_in_the_table_with_its_default() {
    let table = policies::all();
    let listed: Vec<_> = table.iter().flat_map(|group| &group.policies).collect();
    for group in GROUPS.iter().filter(|g| {
        ["This worker", "All workers together", "Attempts", "How long things are kept, in days"].contains(&g.title)
    }) {
        for entry in group.entries.iter().filter(|entry| entry.name != "SLIPWAY_WORKER_NAME") {
            assert!(listed.iter().any(|p| p.variable == Some(entry.name)), "{} isn't in the table", entry.name);
        }
    }
    for policy in listed {
        assert!(policy.variable.is_some() != policy.constant.is_some(), "{policy:?}");
        let nothing =
            matches!(policy.value, PolicyValue::Count(0, _)) || policy.value == PolicyValue::Time(Default::default());
        assert!(!nothing && !policy.why.is_empty() && !policy.why.ends_with('.'), "{policy:?}");
    }
}
