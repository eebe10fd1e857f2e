//! The choice against an oracle that is written in another way, and what must hold however many are placed.

#![expect(clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use slipway_protocol::names::{Port, ServerHandle};
use slipway_protocol::{Lack, LackKind, NeededRoom, PlacementReason, PlacementWish, ServerLabel, ServerTraits};

use super::choice::choose;
use super::limits::PlacementLimits;
use super::ports::{PortRange, assign_ports};
use super::server::{MeasuredRoom, PlacementNeeds, PlacementServer, ReservedRoom};

const AGE: u64 = PlacementLimits::MAX_FACTS_AGE.as_secs();

fn label(number: u8) -> ServerLabel {
    ServerLabel::new(format!("l{number}")).expect("a label")
}

fn traits() -> impl Strategy<Value = ServerTraits> {
    let labels = proptest::collection::btree_set(0..3u8, 0..3);
    (prop::option::of(0..2u8), labels).prop_map(|(region, labels)| ServerTraits {
        region: region.map(label),
        labels: labels.into_iter().map(label).collect(),
    })
}

fn measured() -> impl Strategy<Value = MeasuredRoom> {
    let (fit, ports) = (prop::bool::weighted(0.9), proptest::collection::btree_set(20_000..20_006u16, 0..4));
    let inodes = prop::option::of(prop::sample::select(vec![49_999, 50_000, 900_000u64]));
    (0..2 * AGE, 0..3000u32, 0..3000u32, 0..6000u32, inodes, 0..20u32, fit, ports).prop_map(
        |(age, ram_mb, free, free_disk_mb, free_inodes, load, fit, ports)| MeasuredRoom {
            age: Duration::from_secs(age),
            ram_mb,
            free_ram_mb: free.min(ram_mb),
            free_disk_mb,
            free_inodes,
            cpus: 2,
            load: f64::from(load),
            ports,
            unfit: (!fit).then(|| "no docker".to_owned()),
        },
    )
}

fn servers() -> impl Strategy<Value = Vec<PlacementServer>> {
    let refusal = Lack { what: LackKind::Slug, message: "taken".to_owned() };
    let one = (
        traits(),
        (0..4u32, 0..4u32),
        prop::option::weighted(0.1, Just(String::new())),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.1, Just("no route".to_owned())),
        prop::option::weighted(0.9, measured()),
        (0..1500u64, 0..1500u64),
        prop::option::weighted(0.1, Just(refusal)),
    );
    proptest::collection::vec(one, 0..8).prop_map(|all| {
        let with_number = all.into_iter().enumerate();
        with_number
            .map(|(i, (traits, counts, cordoned, maintained, unreachable, measured, set_aside, refusal))| {
                PlacementServer {
                    handle: ServerHandle::new(format!("vps-{i}")).expect("a handle"),
                    traits,
                    project_limit: counts.0,
                    load_limit: 4,
                    projects: counts.1,
                    cordoned,
                    maintained_until: Option::<Timestamp>::from(Timestamp::UNIX_EPOCH).filter(|_| maintained),
                    unreachable,
                    measured,
                    reserved: ReservedRoom { ram_mb: set_aside.0, disk_mb: set_aside.1, ports: [20_000].into() },
                    refusals: refusal.into_iter().collect(),
                }
            })
            .collect()
    })
}

fn needs() -> impl Strategy<Value = PlacementNeeds> {
    let given = proptest::collection::btree_set(20_000..20_006u16, 0..2);
    (1..900u32, 1..1500u32, given, traits(), traits()).prop_map(|(ram_mb, disk_mb, given, required, preferred)| {
        PlacementNeeds {
            room: NeededRoom { ram_mb, disk_mb, ports: 2 },
            given_ports: given.into_iter().filter_map(|port| Port::new(port).ok()).collect(),
            wish: PlacementWish { required, preferred, wait_seconds: None },
            lives_on: None,
        }
    })
}

/// Whether the server has room, by the documented rules in one sentence each.
fn has_room(server: &PlacementServer, needs: &PlacementNeeds) -> bool {
    let Some(seen) = &server.measured else { return false };
    let wanted = &needs.wish.required;
    let mut in_use = seen.ports.iter().chain(&server.reserved.ports);
    server.refusals.is_empty()
        && server.cordoned.is_none()
        && server.maintained_until.is_none()
        && server.unreachable.is_none()
        && server.projects < server.project_limit
        && (wanted.region.is_none() || wanted.region == server.traits.region)
        && wanted.labels.is_subset(&server.traits.labels)
        && seen.age <= PlacementLimits::MAX_FACTS_AGE
        && seen.unfit.is_none()
        && u64::from(seen.free_ram_mb) >= server.reserved.ram_mb + u64::from(needs.room.ram_mb) + 128
        && u64::from(seen.free_disk_mb) >= server.reserved.disk_mb + u64::from(needs.room.disk_mb) + 2048
        && seen.free_inodes.is_none_or(|free| free >= 50_000)
        && seen.load <= 8.0
        && !in_use.any(|port| needs.given_ports.iter().any(|given| given.get() == *port))
}

/// What a server is worth: what it has of what is preferred, then its score in ten-thousandths.
fn worth(server: &PlacementServer, needs: &PlacementNeeds) -> (usize, i64) {
    let wish = &needs.wish.preferred;
    let labels = wish.labels.iter().filter(|label| server.traits.labels.contains(*label)).count();
    let region = usize::from(wish.region.is_some() && wish.region == server.traits.region);
    let Some(seen) = &server.measured else { return (labels + region, -1) };
    let free = f64::from(seen.free_ram_mb) - f64::from(u32::try_from(server.reserved.ram_mb).expect("small"));
    let ram = if seen.ram_mb == 0 { 0.0 } else { free.max(0.0) / f64::from(seen.ram_mb) };
    let left = f64::from(server.project_limit) - f64::from(server.projects);
    let projects = if server.project_limit == 0 { 0.0 } else { left.max(0.0) / f64::from(server.project_limit) };
    #[expect(clippy::cast_possible_truncation, reason = "it's 10,000 at most")]
    let score = ((0.7 * ram + 0.3 * projects) * 10_000.0).round() as i64;
    (labels + region, score)
}

proptest! {
    #[test]
    fn the_choice_is_the_oracles(servers in servers(), needs in needs()) {
        let choice = choose(&servers, &needs);
        let with_room: Vec<&PlacementServer> = servers.iter().filter(|server| has_room(server, &needs)).collect();
        let most = with_room.iter().map(|server| worth(server, &needs)).max();
        let chosen = servers.iter().find(|server| Some(&server.handle) == choice.server.as_ref());
        prop_assert_eq!(chosen.is_some(), !with_room.is_empty());
        if let (Some(chosen), Some(most)) = (chosen, most) {
            prop_assert!(has_room(chosen, &needs), "{:?}", choice);
            let (preferred, score) = worth(chosen, &needs);
            // Two ways to add floating-point numbers may differ by their last digit.
            prop_assert!(preferred == most.0 && (score - most.1).abs() <= 1, "{:?} {:?}", choice, most);
        }
        for (score, server) in choice.scores.iter().filter_map(|score| Some((score, servers.iter().find(|s| s.handle == score.server)?))) {
            prop_assert_eq!(score.lacks.is_empty(), has_room(server, &needs), "{:?}", score);
            prop_assert!(score.score.is_none_or(|score| (0.0..=1.0).contains(&score)));
        }
        prop_assert_eq!(choice.scores.len(), servers.len());
    }

    #[test]
    fn a_project_stays_where_it_lives_whatever_that_server_lacks(servers in servers(), needs in needs(), home in 0..9u8) {
        let home = ServerHandle::new(format!("vps-{home}")).expect("a handle");
        let choice = choose(&servers, &PlacementNeeds { lives_on: Some(home.clone()), ..needs });
        prop_assert_eq!((choice.server, choice.reason), (Some(home), PlacementReason::LivesThere));
    }

    #[test]
    fn however_many_are_placed_no_server_is_overfilled(servers in servers(), needs in proptest::collection::vec(needs(), 1..40)) {
        let mut now = servers.clone();
        let mut ports: BTreeMap<ServerHandle, BTreeSet<Port>> = BTreeMap::new();
        for needs in needs {
            let Some(chosen) = choose(&now, &needs).server else { continue };
            let server = now.iter_mut().find(|server| server.handle == chosen).expect("one of them");
            let mut given = needs.given_ports.iter().copied();
            let services =
                ["backend", "db"].map(|name| (name.parse().expect("a service"), given.next())).into();
            let seen = server.measured.clone().expect("it was measured");
            let taken = &seen.ports | &server.reserved.ports;
            let Some(assigned) = assign_ports(&services, &BTreeMap::new(), &taken, PortRange::DEFAULT) else { continue };
            for port in assigned.values() {
                prop_assert!(!seen.ports.contains(&port.get()));
                prop_assert!(ports.entry(chosen.clone()).or_default().insert(*port), "{} twice on {}", port, chosen);
            }
            server.reserve(&needs.room, assigned.into_values());
        }
        for (before, after) in servers.iter().zip(&now).filter(|(before, after)| before.reserved != after.reserved) {
            let seen = after.measured.as_ref().expect("it was measured");
            prop_assert!(after.reserved.ram_mb + 128 <= u64::from(seen.free_ram_mb), "{:?}", before.handle);
            prop_assert!(after.reserved.disk_mb + 2048 <= u64::from(seen.free_disk_mb), "{:?}", before.handle);
            prop_assert!(after.projects <= after.project_limit);
        }
    }
}
