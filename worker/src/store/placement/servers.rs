//! What is known of the servers that may be chosen, read in one statement.

use std::collections::BTreeSet;

use slipway_protocol::ServerTraits;
use slipway_protocol::names::ServerHandle;
use tokio_postgres::Row;

use crate::scheduler::{MeasuredRoom, PlacementLimits, PlacementServer, ReservedRoom};
use crate::store::Result;
use crate::store::connection::client::Statements;
use crate::store::connection::value::{duration, readable};

/// Each server with what was seen of it, with how many projects it has, and with what is set aside there: for what was placed,
/// and for what names its server and doesn't live there yet. What succeeded counts until the server was asked again.
const SERVERS: &str = "
    WITH set_aside AS (
        SELECT r.server, r.project_id, r.ram_mb, r.disk_mb FROM reservations r LEFT JOIN server_facts f USING (server)
        WHERE r.succeeded_at IS NULL OR f.seen_at IS NULL OR r.succeeded_at >= f.seen_at
        UNION ALL
        SELECT d.server, d.project_id, coalesce((d.request #>> '{data,resources,ram_mb}')::integer, $1),
            coalesce((d.request #>> '{data,resources,disk_mb}')::integer, $2)
        FROM deployments d
        WHERE d.state = 'running' AND d.action = 'deploy' AND d.placement IS NULL AND NOT EXISTS (
            SELECT FROM project_places p WHERE p.project_id = d.project_id AND p.project_slug = d.project_slug
              AND p.server = d.server AND p.succeeded > coalesce(p.undeployed, 0))),
    room AS (SELECT server, sum(ram_mb) AS ram_mb, sum(disk_mb) AS disk_mb FROM set_aside GROUP BY server),
    ports AS (SELECT server, array_agg(port) AS ports FROM reserved_ports GROUP BY server),
    projects AS (
        SELECT server, count(*) AS projects FROM (
            SELECT server, project_id FROM project_places WHERE succeeded > coalesce(undeployed, 0)
            UNION SELECT server, project_id FROM set_aside) p GROUP BY server),
    maintained AS (
        SELECT server, max(ends_at) AS until FROM maintenance_windows
        WHERE starts_at <= now() AND ends_at > now() GROUP BY server)
    SELECT s.handle, s.region, s.labels, s.project_limit, s.cordoned_at IS NOT NULL AS cordoned, s.cordon_reason, m.until,
        c.open_until IS NOT NULL AS unreachable, c.failures, f.problem,
        extract(epoch FROM now() - f.seen_at)::float8 AS age, f.ram_mb, f.free_ram_mb, f.free_disk_mb, f.free_inodes, f.cpus,
        f.load, f.ports, f.unfit, coalesce(r.ram_mb, 0) AS reserved_ram_mb, coalesce(r.disk_mb, 0) AS reserved_disk_mb,
        p.ports AS reserved_ports, coalesce(n.projects, 0) AS projects
    FROM servers s LEFT JOIN server_facts f ON f.server = s.handle LEFT JOIN server_circuits c ON c.server = s.handle
    LEFT JOIN room r ON r.server = s.handle LEFT JOIN ports p ON p.server = s.handle
    LEFT JOIN projects n ON n.server = s.handle LEFT JOIN maintained m ON m.server = s.handle
    ORDER BY s.handle";

/// All servers of the inventory, as a choice sees them.
pub(in crate::store) async fn read_servers(
    client: &impl Statements,
    limits: &PlacementLimits,
) -> Result<Vec<PlacementServer>> {
    let (ram, disk) = (signed(limits.resources.ram_mb), signed(limits.resources.disk_mb));
    let rows = client.rows(SERVERS, &[&ram, &disk]).await?;
    rows.iter().map(|row| server(row, limits)).collect()
}

fn server(row: &Row, limits: &PlacementLimits) -> Result<PlacementServer> {
    let text = |column: &str| row.get::<_, Option<String>>(column);
    let count = |column: &str| u64::try_from(row.get::<_, i64>(column)).unwrap_or(0);
    let few = |column: &str| row.get::<_, Option<i32>>(column).map(unsigned);
    let label = |text: String| readable("servers", "labels", text.parse());
    let unreachable = match (row.get::<_, bool>("unreachable"), text("problem")) {
        (true, _) => Some(format!("{} connections to it have failed", few("failures").unwrap_or_default())),
        (false, Some(problem)) => Some(format!("it couldn't be asked: {problem}")),
        (false, None) => None,
    };
    Ok(PlacementServer {
        handle: readable("servers", "handle", ServerHandle::new(row.get::<_, String>("handle")))?,
        traits: ServerTraits {
            region: text("region").map(label).transpose()?,
            labels: row.get::<_, Vec<String>>("labels").into_iter().map(label).collect::<Result<_>>()?,
        },
        project_limit: few("project_limit").unwrap_or(limits.projects),
        load_limit: limits.load,
        projects: u32::try_from(count("projects")).unwrap_or(u32::MAX),
        cordoned: row.get::<_, bool>("cordoned").then(|| text("cordon_reason").unwrap_or_default()),
        maintained_until: row.get("until"),
        unreachable,
        measured: measured(row),
        reserved: ReservedRoom {
            ram_mb: count("reserved_ram_mb"),
            disk_mb: count("reserved_disk_mb"),
            ports: port_set(row.get("reserved_ports")),
        },
        refusals: Vec::new(),
    })
}

/// What was seen of the server, if it was asked with success.
fn measured(row: &Row) -> Option<MeasuredRoom> {
    let number = |column: &str| row.get::<_, Option<i32>>(column).map(unsigned);
    Some(MeasuredRoom {
        age: duration(row.get::<_, Option<f64>>("age")?),
        ram_mb: number("ram_mb")?,
        free_ram_mb: number("free_ram_mb")?,
        free_disk_mb: number("free_disk_mb")?,
        free_inodes: row.get::<_, Option<i64>>("free_inodes").and_then(|n| u64::try_from(n).ok()),
        cpus: number("cpus")?,
        load: f64::from(row.get::<_, Option<f32>>("load")?),
        ports: port_set(row.get("ports")),
        unfit: row.get("unfit"),
    })
}

/// Ports as the database has them.
pub(in crate::store) fn port_set(ports: Option<Vec<i32>>) -> BTreeSet<u16> {
    ports.unwrap_or_default().into_iter().filter_map(|port| u16::try_from(port).ok()).collect()
}

/// A count as the database has it.
pub(in crate::store) fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(in crate::store) fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
