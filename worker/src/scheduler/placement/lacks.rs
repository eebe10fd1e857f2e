//! What rules a server out for a deployment, and how that is told.

use slipway_protocol::{Lack, LackKind, ServerLabel};

use super::limits::PlacementLimits;
use super::server::{MeasuredRoom, PlacementNeeds, PlacementServer};

/// All that a server lacks for a deployment; nothing, if it has room.
pub(super) fn lacks_of(server: &PlacementServer, needs: &PlacementNeeds) -> Vec<Lack> {
    let mut lacks = server.refusals.clone();
    if let Some(reason) = &server.cordoned {
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        lacks.push(lack(LackKind::Cordoned, format!("it's cordoned{why}")));
    }
    if let Some(until) = server.maintained_until {
        lacks.push(lack(LackKind::Maintenance, format!("it's being maintained until {until}")));
    }
    if let Some(why) = &server.unreachable {
        lacks.push(lack(LackKind::Unreachable, why.clone()));
    }
    lacks.extend(trait_lacks(server, needs));
    if server.projects >= server.project_limit {
        let message = format!("it has {} projects, and may have {}", server.projects, server.project_limit);
        lacks.push(lack(LackKind::Projects, message));
    }
    match &server.measured {
        None => lacks.push(lack(LackKind::Facts, "nothing is known of it yet".to_owned())),
        Some(measured) => lacks.extend(room_lacks(server, measured, needs)),
    }
    lacks
}

fn lack(what: LackKind, message: String) -> Lack {
    Lack { what, message }
}

fn trait_lacks(server: &PlacementServer, needs: &PlacementNeeds) -> Vec<Lack> {
    let (mut lacks, required) = (Vec::new(), &needs.wish.required);
    if let Some(region) = required.region.as_ref().filter(|region| server.traits.region.as_ref() != Some(region)) {
        let there = server.traits.region.as_ref().map_or("in no region", |region| region.as_str());
        lacks.push(lack(LackKind::Region, format!("it's {there}, not {region}")));
    }
    let missing: Vec<_> = required.labels.difference(&server.traits.labels).collect();
    if !missing.is_empty() {
        lacks.push(lack(LackKind::Labels, format!("it isn't labelled {}", join_labels(missing))));
    }
    lacks
}

fn room_lacks(server: &PlacementServer, measured: &MeasuredRoom, needs: &PlacementNeeds) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if measured.age > PlacementLimits::MAX_FACTS_AGE {
        let message = format!("what is known of it is {} s old", measured.age.as_secs());
        lacks.push(lack(LackKind::Facts, message));
    }
    if let Some(why) = &measured.unfit {
        lacks.push(lack(LackKind::Unfit, why.clone()));
    }
    let mut room = |what, name: &str, free: u64, needed: u32, spare: u32| {
        let needed = u64::from(needed) + u64::from(spare);
        if free < needed {
            let message = format!("{free} MiB of {name} are free, {needed} are needed ({spare} of them stay free)");
            lacks.push(lack(what, message));
        }
    };
    let (ram, disk) = (server.free_ram_mb(measured), server.free_disk_mb(measured));
    room(LackKind::Ram, "memory", ram, needs.room.ram_mb, PlacementLimits::SPARE_RAM_MB);
    room(LackKind::Disk, "disk", disk, needs.room.disk_mb, PlacementLimits::SPARE_DISK_MB);
    if let Some(free) = measured.free_inodes.filter(|free| *free < PlacementLimits::MIN_INODES) {
        let message = format!("{free} inodes are free, {} are needed", PlacementLimits::MIN_INODES);
        lacks.push(lack(LackKind::Inodes, message));
    }
    let most = f64::from(measured.cpus.max(1)) * f64::from(server.load_limit);
    if measured.load > most {
        let message =
            format!("its load is {:.1}, and with {} processors {most:.0} at most", measured.load, measured.cpus);
        lacks.push(lack(LackKind::Load, message));
    }
    let in_use = |port: &u16| measured.ports.contains(port) || server.reserved.ports.contains(port);
    let taken: Vec<String> =
        needs.given_ports.iter().map(|port| port.get()).filter(in_use).map(|port| port.to_string()).collect();
    if !taken.is_empty() {
        lacks.push(lack(LackKind::Ports, format!("in use there: {}", taken.join(", "))));
    }
    lacks
}

/// Labels as people write them.
fn join_labels<'a>(labels: impl IntoIterator<Item = &'a ServerLabel>) -> String {
    labels.into_iter().map(ServerLabel::as_str).collect::<Vec<_>>().join(", ")
}
