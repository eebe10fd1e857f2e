//! What a move is asked to do, as its row has it; what it's refused for, and what it acts with. Its server is chosen in
//! `placement`, also where it's named: that one has to have room and ports as any other.

use serde_json::Value;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{DeploymentId, ErrorCode, Failure, MoveData, ProjectCommand};
use tokio_postgres::Row;

use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::readable;

/// Where a project is that is to be moved, and what becomes of its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOrder {
    /// The server that it's on.
    pub from: ServerHandle,
    /// What becomes of its data.
    pub data: MoveData,
}

/// The same, of a move that is to be stored.
pub(in crate::store) struct NewMove<'a> {
    pub from: &'a ServerHandle,
    /// None: one is chosen.
    pub to: Option<&'a ServerHandle>,
    pub data: MoveData,
}

impl MoveOrder {
    /// Of the columns `moves_from` and `move_data`; none of anything but a move.
    pub(in crate::store) fn read(row: &Row) -> Result<Option<Self>> {
        const TABLE: &str = "deployments";
        let text = |column: &str| row.get::<_, Option<String>>(column);
        let Some(from) = text("moves_from") else { return Ok(None) };
        let data = text("move_data").unwrap_or_default();
        let data = MoveData::named(&data).ok_or_else(|| format!("it's {data:?}"));
        Ok(Some(Self {
            from: readable(TABLE, "moves_from", ServerHandle::new(from))?,
            data: readable(TABLE, "move_data", data)?,
        }))
    }
}

/// Why a project that is on `from` can't be moved now as `command` asks, if it can't.
pub(in crate::store) async fn refuse_move(
    tx: &StoreTransaction<'_>,
    command: &ProjectCommand,
    from: &ServerHandle,
) -> Result<Option<Failure>> {
    let refuse = |code, message| Ok(Some(Failure::new(code, None, message)));
    let (project, slug) = (&command.project, &command.project.slug);
    let to = command.move_to.as_ref().map(ServerHandle::as_str);
    let sql = "SELECT (SELECT id FROM deployments WHERE project_id = $1 AND project_slug = $2
                   AND state IN ('pending', 'running') ORDER BY arrival DESC LIMIT 1) AS open,
               EXISTS (SELECT FROM servers WHERE handle = $3) AS is_known,
               EXISTS (SELECT FROM slug_owners WHERE server = $3 AND project_slug = $2 AND project_id <> $1) AS is_taken,
               EXISTS (SELECT FROM project_places WHERE project_id = $1 AND project_slug = $2 AND server = $3
                   AND succeeded > coalesce(undeployed, 0)) AS is_there";
    let row = tx.query_one(sql, &[&project.id.0, &slug.as_str(), &to]).await?;
    if let Some(to) = &command.move_to {
        if to == from || row.get::<_, bool>("is_there") {
            return refuse(ErrorCode::AlreadyOnServer, format!("{slug} is on {to} already"));
        }
        if !row.get::<_, bool>("is_known") {
            return refuse(ErrorCode::UnknownServer, format!("the inventory doesn't know {to}, where {slug} is to go"));
        }
        if row.get::<_, bool>("is_taken") {
            return refuse(ErrorCode::SlugTaken, format!("another project is called {slug} on {to}"));
        }
    }
    match row.get::<_, Option<uuid::Uuid>>("open") {
        Some(open) => {
            let id = DeploymentId(open);
            refuse(
                ErrorCode::DeploymentUnderWay,
                format!("deployment {id} of {slug} hasn't ended: its version would be lost"),
            )
        }
        None => Ok(None),
    }
}

/// The request of the version that a project has, without its place: server and ports are chosen anew.
pub(in crate::store) fn without_place(mut acting: Value) -> Value {
    if let Some(data) = acting.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("server");
        let allocations = data.get_mut("allocations").and_then(Value::as_array_mut);
        for allocation in allocations.into_iter().flatten().filter_map(Value::as_object_mut) {
            allocation.remove("host_port");
        }
    }
    acting
}
