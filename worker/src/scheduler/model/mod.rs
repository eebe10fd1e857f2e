//! A little world in which the scheduler's decisions are played out with a clock of its own: requests arrive in any
//! order, attempts succeed, fail and are lost, workers drain, die and freeze, servers go and come back. What SQL does
//! by itself (leases, fences, the order of a queue) is a line of it here; what is decided is decided by the real
//! functions, and every step is checked against what must always hold.

mod attempts;
mod checks;
mod world;

use proptest::prelude::*;
use slipway_protocol::{ErrorCode, Outcome};
use world::{ModelEvent, ModelWorld, PROJECTS, SERVERS, WORKERS};

use crate::store::State;

fn events() -> impl Strategy<Value = Vec<ModelEvent>> {
    let error = prop::option::weighted(
        0.4,
        prop::sample::select(vec![
            ErrorCode::PullFailed,
            ErrorCode::RegistryRateLimited,
            ErrorCode::DiskFull,
            ErrorCode::CrashLoop,
            ErrorCode::MissingSecret,
            ErrorCode::ServerConnectionLost,
        ]),
    );
    let arrival = (0..PROJECTS, 0..SERVERS, prop::option::weighted(0.8, 0..6u64));
    let event = prop_oneof![
        6 => arrival.prop_map(|(project, server, sequence)| ModelEvent::Arrive { project, server, sequence }),
        12 => (0..WORKERS).prop_map(|worker| ModelEvent::Claim { worker }),
        16 => (0..64usize, error, prop::bool::weighted(0.3))
            .prop_map(|(which, error, last)| ModelEvent::Stage { which, error, last }),
        1 => (0..WORKERS).prop_map(|worker| ModelEvent::Drain { worker }),
        1 => (0..WORKERS).prop_map(|worker| ModelEvent::Die { worker }),
        2 => (0..WORKERS, any::<bool>()).prop_map(|(worker, frozen)| ModelEvent::Freeze { worker, frozen }),
        1 => (0..64usize).prop_map(|which| ModelEvent::Cancel { which }),
        3 => (0..SERVERS, prop::bool::weighted(0.4)).prop_map(|(server, up)| ModelEvent::Server { server, up }),
        8 => (1..90i64).prop_map(|seconds| ModelEvent::Pass { seconds }),
    ];
    prop::collection::vec(event, 1..160)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_request_ends_once_and_nothing_is_exceeded(events in events()) {
        let mut world = ModelWorld::default();
        events.iter().for_each(|event| world.happens(*event));
        world.down = [false; SERVERS];
        world.run_out(60);
        // A circuit lasts as long as nobody asks for its server; once that has answered, it's trusted again.
        for server in 0..SERVERS {
            world.arrive(PROJECTS + server, server, None);
        }
        world.run_out(10);
        prop_assert_eq!(world.circuits.len(), 0);
    }

    #[test]
    fn without_servers_every_request_ends_too(events in events()) {
        let mut world = ModelWorld::default();
        events.iter().for_each(|event| world.happens(*event));
        world.down = [true; SERVERS];
        world.run_out(100);
    }

    #[test]
    fn with_the_producers_numbers_the_latest_request_is_never_superseded(
        mut events in events(), start in 10..20u64
    ) {
        for (i, event) in events.iter_mut().enumerate() {
            if let ModelEvent::Arrive { sequence, .. } = event {
                // In any order, but each once.
                *sequence = Some((i as u64 * 7919 + start) % 1009);
            }
        }
        let mut world = ModelWorld::default();
        events.iter().for_each(|event| world.happens(*event));
        world.run_out(100);
        for project in 0..PROJECTS {
            let newest = world.deployments.iter().filter(|d| d.project == project).max_by_key(|d| d.order.sequence);
            prop_assert!(newest.is_none_or(|d| d.state != State::Ended(Outcome::Superseded)), "{:#?}", world);
        }
    }
}
