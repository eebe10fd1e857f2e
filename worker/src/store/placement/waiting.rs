//! Requests that wait for a server get one, in the order in which they came, as soon as one has room; those that have waited
//! for as long as they may end. Choice and reservation are one transaction, under a lock that lets one choice follow the other.

use std::collections::BTreeSet;

use jiff::Timestamp;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, CloudEvent, ErrorCode, Failure, NeededRoom, Placement, ProjectReady, ServerScore};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::scheduler::{PlacementLimits, PlacementServer, SourceScope};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::deployment::end::{AttemptSummary, DeploymentEnd};
use crate::store::deployment::head::{DeploymentHead, HEAD_COLUMNS, log_unreadable_once};
use crate::store::deployment::held_deployments::{IS_HELD, Picked, may_be_tried};
use crate::store::deployment::locked::LockedDeployment;
use crate::store::owners::claim::claim_owned;
use crate::store::placement::choice::{ChosenPlace, choose_place};
use crate::store::placement::request::{RequestSource, waits_until};
use crate::store::placement::servers::read_servers;
use crate::store::placement::try_lock_placement;
use crate::store::placement::write::{NewReservation, with_place, write_choice};
use crate::store::pushes::watch::watch;
use crate::store::sources::scopes;
use crate::store::{Result, Store};

/// How many requests one transaction looks at.
const PAGE: i64 = 20;
/// How long it's told in the same words why a request waits.
const TELL_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

/// What became of the requests that were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlacementPass {
    /// How many got a server.
    pub placed: u32,
    /// How many wait on.
    pub waiting: u32,
    /// How many have ended without one.
    pub ended: u32,
    /// Where the next pass goes on; none at the end.
    pub after: Option<i64>,
    /// Whether somebody else is choosing at this moment, so that nothing was looked at.
    pub busy: bool,
}

impl Store {
    /// Looks at requests that wait for a server, from the one that came after `after` on. Call it again until nothing is left.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn place_waiting(&self, limits: &PlacementLimits, after: i64) -> Result<PlacementPass> {
        match Box::pin(self.place_page(limits, after, PAGE)).await {
            // One at a time, the one at which the database fails is found, and held.
            Err(error) if !error.fails_at_any() => Box::pin(self.place_page(limits, after, 1)).await,
            placed => placed,
        }
    }

    async fn place_page(&self, limits: &PlacementLimits, after: i64, most: i64) -> Result<PlacementPass> {
        let picked = Picked::default();
        let placed = deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if !try_lock_placement(&tx).await? {
                return Ok((PlacementPass { busy: true, ..PlacementPass::default() }, Vec::new()));
            }
            tx.hurry().await?;
            let sql = format!(
                "SELECT id FROM deployments d WHERE state = 'pending' AND server IS NULL AND {} AND arrival > $1
                 ORDER BY arrival LIMIT $2 FOR UPDATE SKIP LOCKED",
                may_be_tried()
            );
            let ids: Vec<Uuid> = tx.query(&sql, &[&after, &most]).await?.iter().map(|row| row.get("id")).collect();
            if let ([id], 1) = (ids.as_slice(), most) {
                picked.is(*id);
            }
            let sql = format!(
                "SELECT {HEAD_COLUMNS}, request, source, amqp_user, moves_to, arrival, now() AS now, {IS_HELD} AS is_held
                 FROM deployments d WHERE id = ANY ($1) ORDER BY arrival"
            );
            let rows = tx.query(&sql, &[&ids]).await?;
            let mut pass = PlacementPass::default();
            if rows.is_empty() {
                return Ok((pass, Vec::new()));
            }
            let held = rows.iter().filter(|row| row.get("is_held")).map(|row| row.get("id")).collect();
            let mut scene = PlacementScene {
                store: self,
                tx: &tx,
                limits,
                servers: read_servers(&tx, limits).await?,
                scopes: scopes(&tx).await?,
            };
            for row in &rows {
                match DeploymentHead::read(row) {
                    Ok(head) => scene.place(row, head, &mut pass).await?,
                    Err(error) => log_unreadable_once(row.get("id"), &error),
                }
            }
            if i64::try_from(rows.len()).is_ok_and(|read| read == most) {
                pass.after = rows.last().map(|row| row.get("arrival"));
            }
            commit(tx, TransactionKind::Place).await?;
            Ok((pass, held))
        })
        .await;
        let (pass, held) = picked.hold_failing(self, placed).await?;
        self.let_go_deployments(&held).await;
        Ok(pass)
    }

    /// How many requests wait for a server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn waiting_for_room(&self) -> Result<u64> {
        deadline(async {
            let sql = "SELECT count(*) FROM deployments WHERE state = 'pending' AND server IS NULL";
            let count: i64 = self.client().await?.query_one(sql, &[]).await?.get(0);
            Ok(u64::try_from(count).unwrap_or(0))
        })
        .await
    }
}

/// What a pass has read, and goes on to fill.
struct PlacementScene<'a> {
    store: &'a Store,
    tx: &'a StoreTransaction<'a>,
    limits: &'a PlacementLimits,
    servers: Vec<PlacementServer>,
    scopes: Vec<SourceScope>,
}

impl PlacementScene<'_> {
    async fn place(&mut self, row: &Row, head: DeploymentHead, pass: &mut PlacementPass) -> Result<()> {
        let Ok(Json(event)) = row.try_get::<_, Json<CloudEvent<ProjectReady>>>("request") else {
            let message = "the stored request can't be read by this version of the worker";
            pass.ended += 1;
            return self.end(head, Failure::new(ErrorCode::InternalError, None, message), "permanent").await;
        };
        let (source, user) = (row.get::<_, String>("source"), row.get::<_, Option<String>>("amqp_user"));
        let to = row.get::<_, Option<String>>("moves_to").map(ServerHandle::new).transpose();
        let names = readable("deployments", "moves_to", to)?;
        let (user, scopes, action) = (user.as_deref(), self.scopes.as_slice(), head.action);
        let source = RequestSource { source: &source, user, scopes, action, names };
        let chosen = match &head.moves {
            Some(order) => {
                let may = |server: &&PlacementServer| {
                    server.handle != order.from && source.names.as_ref().is_none_or(|to| *to == server.handle)
                };
                let mut servers: Vec<PlacementServer> = self.servers.iter().filter(may).cloned().collect();
                choose_place(self.tx, &mut servers, &event.data, &source, self.limits).await?
            }
            None => choose_place(self.tx, &mut self.servers, &event.data, &source, self.limits).await?,
        };
        match &chosen.server {
            Some(server) => {
                let server = server.clone();
                self.give_server(head, event, &server, chosen, pass).await
            }
            None => self.wait(row, head, &event.data, chosen, pass).await,
        }
    }

    async fn give_server(
        &mut self,
        head: DeploymentHead,
        event: CloudEvent<ProjectReady>,
        server: &ServerHandle,
        chosen: ChosenPlace,
        pass: &mut PlacementPass,
    ) -> Result<()> {
        let event = with_place(event, server, &chosen.ports);
        let data = &event.data;
        if let Err(failure) = claim_owned(self.tx, head.action, &data.project, server, data).await? {
            pass.ended += 1;
            return self.end(head, failure, "permanent").await;
        }
        let reservation = NewReservation {
            deployment: head.id,
            project: data.project.id,
            server,
            room: chosen.room,
            ports: &chosen.ports,
            given: &chosen.needs.given_ports,
        };
        write_choice(self.tx, &reservation, &event, &chosen.report).await?;
        // Of what is moved, pushes go to the server where it is, until it's proven on the other one.
        if head.action == Action::Deploy {
            watch(self.tx, data).await?;
        }
        self.tx.wake_runner().await?;
        if let Some(filled) = self.servers.iter_mut().find(|of| of.handle == *server) {
            filled.reserve(&chosen.room, chosen.ports.into_values());
        }
        pass.placed += 1;
        tracing::info!(
            deployment.id = %head.id, project.slug = %data.project.slug, server.handle = %server,
            "a server was chosen for the deployment"
        );
        Ok(())
    }

    /// It waits on, and whoever asks is told why; or it has waited for as long as it may.
    async fn wait(
        &self,
        row: &Row,
        mut head: DeploymentHead,
        request: &ProjectReady,
        chosen: ChosenPlace,
        pass: &mut PlacementPass,
    ) -> Result<()> {
        let now: Timestamp = row.get("now");
        let until = match head.moves {
            // What is to be moved serves where it is, and whoever moves it has to know soon.
            Some(_) => head.accepted_at + PlacementLimits::MOVE_WAIT,
            None => waits_until(request, head.accepted_at, self.limits),
        };
        if now >= until {
            pass.ended += 1;
            let failure = no_capacity(&chosen.report, now.duration_since(head.accepted_at).as_secs());
            head.placement = Some(chosen.report);
            return self.end(head, failure, "overdue").await;
        }
        pass.waiting += 1;
        let is_news = head.placement.as_ref().is_none_or(|told| now.duration_since(told.decided_at) >= TELL_AGAIN);
        if is_news {
            let sql = "UPDATE deployments SET placement = $2 WHERE id = $1";
            self.tx.execute(sql, &[&head.id.0, &Json(&chosen.report)]).await?;
        }
        Ok(())
    }

    async fn end(&self, head: DeploymentHead, failure: Failure, reason: &'static str) -> Result<()> {
        tracing::warn!(deployment.id = %head.id, error.type = %failure.code, "the deployment got no server: {}", failure.message);
        let mut locked = LockedDeployment { tx: self.tx, head };
        if let Some(placement) = &locked.head.placement {
            let sql = "UPDATE deployments SET placement = $2 WHERE id = $1";
            self.tx.execute(sql, &[&locked.head.id.0, &Json(placement)]).await?;
        }
        let end = DeploymentEnd::Failed { failure, missing_secret: None, reason };
        locked.finish(self.store, &end, &AttemptSummary::default()).await.map(drop)
    }
}

/// How many servers a failure names; the result lists them.
const NAMED: usize = 5;

/// What a deployment fails with that has waited for room in vain.
fn no_capacity(report: &Placement, waited: i64) -> Failure {
    let NeededRoom { ram_mb, disk_mb, ports } = report.needed;
    let lacks = |score: &ServerScore| {
        let kinds: BTreeSet<&str> = score.lacks.iter().map(|lack| lack.what.as_str()).collect();
        format!("{} lacks {}", score.server, kinds.into_iter().collect::<Vec<_>>().join(", "))
    };
    let mut servers: Vec<String> = report.servers.iter().take(NAMED).map(lacks).collect();
    let more = report.servers.len().saturating_sub(NAMED) + usize::try_from(report.more_servers).unwrap_or(0);
    if more > 0 {
        servers.push(format!("and {more} more"));
    }
    let servers = if servers.is_empty() { "the inventory is empty".to_owned() } else { servers.join("; ") };
    let message = format!(
        "no server had room for {ram_mb} MiB of memory, {disk_mb} MiB of disk and {ports} ports within {waited} s: {servers}"
    );
    Failure::new(ErrorCode::NoCapacity, None, message)
}
