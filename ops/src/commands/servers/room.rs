//! How much room servers have, for `slipway servers list`.

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_worker::store::{MaintenanceWindow, ServerAvailability, ServerRoom};

use crate::terminal::format::{format_duration, format_time, millis_between};
use crate::terminal::print::Table;

/// A table of all servers with what was seen of them last.
pub(super) fn room_table(rooms: &[ServerRoom], servers: &[ServerAvailability], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "SERVER",
        "STATE",
        "REGION",
        "LABELS",
        "FREE RAM",
        "FREE DISK",
        "LOAD",
        "PORTS",
        "PROJECTS",
        "SEEN",
    ]);
    for server in servers {
        let room = rooms.iter().find(|room| room.server == server.server);
        let facts = room.and_then(|room| room.facts.as_ref());
        let labels: Vec<&str> = server.traits.labels.iter().map(|label| label.as_str()).collect();
        let dash = || "-".to_owned();
        table.row([
            server.server.to_string(),
            describe_state(server, room, now),
            server.traits.region.as_ref().map_or_else(dash, ToString::to_string),
            if labels.is_empty() { dash() } else { labels.join(",") },
            facts.map_or_else(dash, |facts| format!("{} of {} MiB", facts.free_ram_mb, facts.ram_mb)),
            facts.map_or_else(dash, |facts| format!("{} of {} MiB", facts.free_disk_mb, facts.disk_mb)),
            facts.map_or_else(dash, |facts| format!("{:.1} of {}", facts.load, facts.cpus)),
            facts.map_or_else(dash, |facts| describe_ports(facts.ports.len(), room)),
            room.map_or_else(dash, describe_projects),
            room.and_then(|room| room.seen_at)
                .map_or_else(dash, |at| format!("{} ago", format_duration(millis_between(at, now)))),
        ]);
    }
    table
}

fn describe_ports(in_use: usize, room: Option<&ServerRoom>) -> String {
    match room.map_or(0, |room| room.reserved_ports) {
        0 => in_use.to_string(),
        reserved => format!("{in_use} and {reserved} set aside"),
    }
}

fn describe_projects(room: &ServerRoom) -> String {
    room.project_limit.map_or_else(|| room.projects.to_string(), |limit| format!("{} of {limit}", room.projects))
}

/// Whether it gets new projects, and if not, why.
fn describe_state(server: &ServerAvailability, room: Option<&ServerRoom>, now: Timestamp) -> String {
    if let Some(window) = server.windows.iter().find(|window| window.starts_at <= now) {
        return format!("maintained until {}", format_time(window.ends_at));
    }
    if let Some((_, reason)) = &server.cordoned {
        return reason.as_ref().map_or_else(|| "cordoned".to_owned(), |reason| format!("cordoned: {reason}"));
    }
    if let Some((_, problem)) = room.and_then(|room| room.problem.as_ref()) {
        return format!("can't be asked: {problem}");
    }
    let unfit = room.and_then(|room| room.facts.as_ref()).and_then(|facts| facts.unfit.as_ref());
    match (unfit, server.windows.first()) {
        (Some(unfit), _) => format!("unfit: {unfit}"),
        (None, Some(window)) => format!("open, maintained from {}", format_time(window.starts_at)),
        (None, None) => "open".to_owned(),
    }
}

/// What was seen of a server, and whether it gets new projects.
pub(super) fn room_json(room: Option<&ServerRoom>, server: Option<&ServerAvailability>, now: Timestamp) -> Value {
    let facts = room.and_then(|room| room.facts.as_ref()).map(|facts| {
        json!({
            "ram_mb": facts.ram_mb, "free_ram_mb": facts.free_ram_mb, "disk_mb": facts.disk_mb,
            "free_disk_mb": facts.free_disk_mb, "free_inodes": facts.free_inodes, "cpus": facts.cpus, "load": facts.load,
            "project_directories": facts.projects, "docker_mb": facts.docker_mb, "ports": facts.ports, "unfit": facts.unfit,
        })
    });
    let window = |window: &MaintenanceWindow| json!({ "window": window.id, "starts_at": window.starts_at, "ends_at": window.ends_at, "reason": window.reason });
    json!({
        "facts": facts,
        "seen_at": room.and_then(|room| room.seen_at),
        "age_ms": room.and_then(|room| room.seen_at).map(|at| millis_between(at, now)),
        "problem": room.and_then(|room| room.problem.as_ref()).map(|(_, problem)| problem),
        "projects": room.map(|room| room.projects),
        "project_limit": server.and_then(|server| server.project_limit),
        "reserved_ports": room.map(|room| room.reserved_ports),
        "region": server.and_then(|server| server.traits.region.as_ref()),
        "labels": server.map(|server| &server.traits.labels),
        "cordoned_at": server.and_then(|server| server.cordoned.as_ref()).map(|(at, _)| at),
        "cordon_reason": server.and_then(|server| server.cordoned.as_ref()).and_then(|(_, reason)| reason.as_ref()),
        "maintenance": server.map(|server| server.windows.iter().map(window).collect::<Vec<_>>()),
    })
}
