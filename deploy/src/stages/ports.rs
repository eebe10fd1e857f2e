//! Who holds the project's ports on the server, as preflight's script tells it. No I/O.

use slipway_protocol::ErrorCode;
use slipway_protocol::names::Slug;

use super::preflight::PreflightDefect;
use crate::lines::ScriptOutput;

/// A container that was started with one of the ports: `PORT NAME STATE PROJECT`, as it was told.
struct Holder<'a> {
    port: &'a str,
    name: &'a str,
    state: &'a str,
    project: &'a str,
}

/// Those of others: what the project itself holds is the version that runs now.
fn others<'a>(said: &'a ScriptOutput, slug: &'a Slug) -> impl Iterator<Item = Holder<'a>> {
    let holders = said.values("container").iter().filter_map(|line| {
        let mut words = line.split(' ');
        let (port, name, state) = (words.next()?, words.next()?, words.next()?);
        Some(Holder { port, name, state, project: words.next().unwrap_or_default() })
    });
    holders.filter(move |holder| holder.project != slug.as_str())
}

impl Holder<'_> {
    /// Whether it holds its port now, or will again in a moment.
    fn holds(&self) -> bool {
        matches!(self.state, "running" | "restarting" | "paused")
    }
}

impl std::fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "container {}", self.name)?;
        if !self.project.is_empty() {
            write!(f, " of project {}", self.project)?;
        }
        if self.state != "running" {
            write!(f, " ({})", self.state)?;
        }
        Ok(())
    }
}

/// The ports that the project can't have.
pub(super) fn occupied(said: &ScriptOutput, slug: &Slug) -> Vec<PreflightDefect> {
    let containers = others(said, slug)
        .filter(Holder::holds)
        .map(|holder| format!("port {} is held by {holder}", holder.port))
        .collect::<Vec<_>>();
    let processes = said.values("process").iter().map(|holder| {
        let mut words = holder.split(' ').chain(std::iter::repeat("unknown"));
        let mut word = || words.next().unwrap_or_default();
        format!("port {} is held by process {} (pid {})", word(), word(), word())
    });
    containers.into_iter().chain(processes).map(|message| (ErrorCode::PortOccupied, message)).collect()
}

/// Stopped containers of others hold nothing, but can't be started any more once the project has the port.
pub(super) fn stopped(said: &ScriptOutput, slug: &Slug) -> Vec<serde_json::Value> {
    let stopped = others(said, slug).filter(|holder| !holder.holds());
    stopped.map(|holder| format!("port {}: {holder}", holder.port).into()).collect()
}
