//! Who holds the project's ports on the server, read from the output of preflight's script. No I/O; what that means for
//! the deployment is decided in `preflight`.

use std::collections::BTreeSet;

use slipway_protocol::names::{Port, Slug};

use crate::remote::output::ScriptOutput;

/// A container that was started with one of the ports: `PORT NAME STATE PROJECT`.
struct PortHolder<'a> {
    port: &'a str,
    name: &'a str,
    state: &'a str,
    project: &'a str,
}

/// A port that the project itself holds is the running release's, and so no conflict.
fn holders_of_others<'a>(output: &'a ScriptOutput, slug: &'a Slug) -> impl Iterator<Item = PortHolder<'a>> {
    let holders = output.values("container").iter().filter_map(|line| {
        let mut columns = line.split(' ');
        let (port, name, state) = (columns.next()?, columns.next()?, columns.next()?);
        Some(PortHolder { port, name, state, project: columns.next().unwrap_or_default() })
    });
    holders.filter(move |holder| holder.project != slug.as_str())
}

impl PortHolder<'_> {
    /// Whether it holds its port now, or will again in a moment.
    fn holds(&self) -> bool {
        matches!(self.state, "running" | "restarting" | "paused")
    }
}

impl std::fmt::Display for PortHolder<'_> {
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

/// A sentence for each port that the project can't have.
pub(super) fn describe_occupied(output: &ScriptOutput, slug: &Slug) -> Vec<String> {
    let containers = holders_of_others(output, slug)
        .filter(PortHolder::holds)
        .map(|holder| format!("port {} is held by {holder}", holder.port))
        .collect::<Vec<_>>();
    // Docker's proxies hold ports for containers, and whose those are only its daemon tells.
    let unknown = |holder: &str| output.value("docker").is_none() && holder.contains(" docker-proxy ");
    let processes = output.values("process").iter().filter(|holder| !unknown(holder)).map(|holder| {
        let mut columns = holder.split(' ').chain(std::iter::repeat("unknown"));
        let mut column = || columns.next().unwrap_or_default();
        format!("port {} is held by process {} (pid {})", column(), column(), column())
    });
    containers.into_iter().chain(processes).collect()
}

/// The ports that the project can't have.
pub(super) fn occupied_ports(output: &ScriptOutput, slug: &Slug) -> BTreeSet<Port> {
    let containers = holders_of_others(output, slug).filter(PortHolder::holds).map(|holder| holder.port);
    let processes = output.values("process").iter().filter_map(|holder| holder.split(' ').next());
    containers.chain(processes).filter_map(|port| Port::new(port.parse().ok()?).ok()).collect()
}

/// Stopped containers of others hold nothing, but can't be started any more once the project has the port.
pub(super) fn describe_stopped(output: &ScriptOutput, slug: &Slug) -> Vec<serde_json::Value> {
    let stopped = holders_of_others(output, slug).filter(|holder| !holder.holds());
    stopped.map(|holder| format!("port {}: {holder}", holder.port).into()).collect()
}
