//! What bounds every choice of a server: the settings, and what no setting changes.

use std::time::Duration;

use slipway_protocol::{NeededRoom, Resources};

use super::ports::PortRange;

/// What bounds every choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacementLimits {
    /// What a project needs whose request doesn't say it.
    pub resources: NeededRoom,
    /// Where ports are chosen from.
    pub ports: PortRange,
    /// How many projects a server may have, of which operators didn't say it.
    pub projects: u32,
    /// The load of each processor above which a server gets no new project.
    pub load: u32,
    /// How long a request waits for room that doesn't say it.
    pub wait: Duration,
    /// How often a server is asked for its facts.
    pub facts_interval: Duration,
}

impl PlacementLimits {
    /// Facts of a server that are older don't count.
    pub const MAX_FACTS_AGE: Duration = Duration::from_secs(15 * 60);
    /// Memory that no choice uses up, in MiB: what preflight asks of a server, and some more.
    pub const SPARE_RAM_MB: u32 = 128;
    /// Disk that no choice uses up, in MiB.
    pub const SPARE_DISK_MB: u32 = 2048;
    /// Inodes that a server must have left.
    pub const MIN_INODES: u64 = 50_000;
    /// How long a move waits for room that names no server.
    pub const MOVE_WAIT: Duration = Duration::from_secs(120);
    /// How often a port that turned out to be taken is replaced by another one, in one deployment.
    pub const MAX_PORTS_LEFT: usize = 8;

    /// What applies unless the worker's environment says otherwise.
    pub const DEFAULT: Self = Self {
        resources: NeededRoom { ram_mb: 512, disk_mb: 2048, ports: 0 },
        ports: PortRange::DEFAULT,
        projects: 50,
        load: 4,
        wait: Duration::from_secs(600),
        facts_interval: Duration::from_secs(60),
    };

    /// What a request needs that asks for `resources` and for that many ports.
    #[must_use]
    pub fn needed(&self, resources: Option<Resources>, ports: usize) -> NeededRoom {
        let asked = resources.unwrap_or_default();
        NeededRoom {
            ram_mb: asked.ram_mb.unwrap_or(self.resources.ram_mb),
            disk_mb: asked.disk_mb.unwrap_or(self.resources.disk_mb),
            ports: u32::try_from(ports).unwrap_or(u32::MAX),
        }
    }
}
