//! What a choice knows of a server, and of what is to be deployed.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::names::{Port, ServerHandle};
use slipway_protocol::{Lack, NeededRoom, PlacementWish, ServerTraits};

/// What a deployment needs.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementNeeds {
    /// Memory, disk, and how many ports.
    pub room: NeededRoom,
    /// The ports among them that the request gives.
    pub given_ports: BTreeSet<Port>,
    /// What the request asks of the server.
    pub wish: PlacementWish,
    /// Where the project lives.
    pub lives_on: Option<ServerHandle>,
}

/// What was seen of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct MeasuredRoom {
    /// How long ago.
    pub age: Duration,
    /// All of its memory, in MiB.
    pub ram_mb: u32,
    /// What of it programs could still get, in MiB.
    pub free_ram_mb: u32,
    /// Free disk where projects and images are, in MiB.
    pub free_disk_mb: u32,
    /// Free inodes; absent where the file system has no such limit.
    pub free_inodes: Option<u64>,
    /// Processors.
    pub cpus: u32,
    /// The load of the last minute.
    pub load: f64,
    /// Ports that are in use, by whomever.
    pub ports: BTreeSet<u16>,
    /// Why it can't take any project.
    pub unfit: Option<String>,
}

/// What is set aside on a server for what is being deployed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReservedRoom {
    /// Memory, in MiB.
    pub ram_mb: u64,
    /// Disk, in MiB.
    pub disk_mb: u64,
    /// Ports.
    pub ports: BTreeSet<u16>,
}

/// A server that may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct PlacementServer {
    /// Which one.
    pub handle: ServerHandle,
    /// Its region and labels.
    pub traits: ServerTraits,
    /// How many projects it may have.
    pub project_limit: u32,
    /// The load of each of its processors above which it gets no new project.
    pub load_limit: u32,
    /// How many live there or are being deployed there.
    pub projects: u32,
    /// Why it's cordoned, if it is.
    pub cordoned: Option<String>,
    /// Until when it's being maintained, if it is now.
    pub maintained_until: Option<Timestamp>,
    /// Why it can't be reached, if the last who tried couldn't.
    pub unreachable: Option<String>,
    /// What was seen of it last.
    pub measured: Option<MeasuredRoom>,
    /// What is set aside there.
    pub reserved: ReservedRoom,
    /// What rules it out for this deployment alone: its slug, its source, or ports that turned out to be missing.
    pub refusals: Vec<Lack>,
}

impl PlacementServer {
    /// Memory that nobody uses and nothing is set aside of, in MiB.
    pub(super) fn free_ram_mb(&self, measured: &MeasuredRoom) -> u64 {
        u64::from(measured.free_ram_mb).saturating_sub(self.reserved.ram_mb)
    }

    /// Disk, in the same way.
    pub(super) fn free_disk_mb(&self, measured: &MeasuredRoom) -> u64 {
        u64::from(measured.free_disk_mb).saturating_sub(self.reserved.disk_mb)
    }

    /// Sets aside what a deployment needs that was just placed here.
    pub fn reserve(&mut self, room: &NeededRoom, ports: impl IntoIterator<Item = Port>) {
        self.reserved.ram_mb += u64::from(room.ram_mb);
        self.reserved.disk_mb += u64::from(room.disk_mb);
        self.reserved.ports.extend(ports.into_iter().map(Port::get));
        self.projects = self.projects.saturating_add(1);
    }
}
