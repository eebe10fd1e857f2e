//! The settings of placement; the operators' tool reads them as well, to explain what would be chosen.

use slipway_protocol::NeededRoom;

use super::reader::VariableReader;
use super::variables as var;
use crate::scheduler::PlacementLimits;

pub(super) fn placement(reader: &mut VariableReader) -> Option<PlacementLimits> {
    let (ram, disk) = (reader.take(&var::PLACEMENT_RAM_MB), reader.take(&var::PLACEMENT_DISK_MB));
    let (ports, projects) = (reader.take(&var::PLACEMENT_PORTS), reader.take(&var::PLACEMENT_PROJECTS));
    let load = reader.take(&var::PLACEMENT_LOAD);
    let (wait, interval) = (reader.take(&var::PLACEMENT_WAIT), reader.take(&var::SERVER_FACTS_INTERVAL));
    Some(PlacementLimits {
        resources: NeededRoom { ram_mb: ram?, disk_mb: disk?, ports: 0 },
        ports: ports?,
        projects: projects?,
        load: load?,
        wait: wait?,
        facts_interval: interval?,
    })
}
