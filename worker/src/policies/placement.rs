//! Policies of choosing servers and ports.

use slipway_deploy::bounds;

use super::setting::{PolicySetting, PolicyValue, count, fixed, time};
use crate::config::variables as var;
use crate::placement::server_asker;
use crate::scheduler::PlacementLimits;

#[rustfmt::skip]
pub(super) fn policies() -> Vec<PolicySetting> {
    let mib = |mib: u32| PolicyValue::Count(mib.into(), "MiB");
    vec![
        count("memory that is set aside for a project", &var::PLACEMENT_RAM_MB, "MiB",
            "What a small web service with its database takes; a request that needs more says so"),
        count("disk that is set aside for a project", &var::PLACEMENT_DISK_MB, "MiB",
            "Images of two releases and a small database"),
        count("projects of a server", &var::PLACEMENT_PROJECTS, "projects",
            "Each has containers, networks and rules of its own; operators may say another number for a server"),
        count("load of a processor", &var::PLACEMENT_LOAD, "programs",
            "One that is so far behind would only make those who live there wait longer; loads are told for a minute"),
        time("waiting for room", &var::PLACEMENT_WAIT,
            "Others end or are taken off meanwhile; whoever asked should know soon, and may say how long"),
        fixed("waiting for room of a move", "scheduler::placement::limits::MOVE_WAIT", PlacementLimits::MOVE_WAIT,
            "A load that is high for a moment passes; what is to be moved serves where it is, and a drain goes on with others"),
        time("asking a server what it has", &var::SERVER_FACTS_INTERVAL,
            "One round trip; what is set aside counts beside what was seen, so that this needn't be often"),
        fixed("facts that still count", "scheduler::placement::limits::MAX_FACTS_AGE", PlacementLimits::MAX_FACTS_AGE,
            "What was seen before says little about now; a server that doesn't answer gets nothing new"),
        fixed("memory that no choice uses up", "scheduler::placement::limits::SPARE_RAM_MB", mib(PlacementLimits::SPARE_RAM_MB),
            "A server without any left ends programs of those who live there"),
        fixed("disk that no choice uses up", "scheduler::placement::limits::SPARE_DISK_MB", mib(PlacementLimits::SPARE_DISK_MB),
            "Logs and databases of those who live there grow"),
        fixed("servers that a worker asks at once", "placement::server_asker::ASKED_AT_ONCE",
            PolicyValue::Count(server_asker::ASKED_AT_ONCE.into(), "servers"),
            "Asking is a connection and a few programs, and mustn't be noticed by deployments"),
        fixed("a server's answer", "server_facts::ASK_TIME", bounds::SERVER_FACTS,
            "Docker may take seconds to say how much it has; who takes longer isn't well"),
    ]
}
