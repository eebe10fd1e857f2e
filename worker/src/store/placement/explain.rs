//! What would be chosen for a request if it came now. Nothing is written, and nobody is waited for.

use std::time::Duration;

use jiff::Timestamp;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, Placement, ProjectReady};

use crate::scheduler::PlacementLimits;
use crate::store::connection::deadline::deadline;
use crate::store::placement::choice::choose_place;
use crate::store::placement::request::{RequestSource, waits_until};
use crate::store::placement::servers::read_servers;
use crate::store::sources::scopes;
use crate::store::{Result, Store};

/// What would become of a request that leaves its server to Slipway.
#[derive(Debug, Clone, PartialEq)]
pub struct ExplainedPlacement {
    /// The server that it would get; none where it would wait.
    pub server: Option<ServerHandle>,
    /// Why, with all servers.
    pub placement: Placement,
    /// For how long it would wait for room that isn't there; not at all where its expiry has passed.
    pub patience: Duration,
}

impl Store {
    /// Chooses for `request`, as if it had come from `source` and RabbitMQ's `user`, and leaves it at that.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn explain_placement(
        &self,
        request: &ProjectReady,
        source: &str,
        user: Option<&str>,
        limits: &PlacementLimits,
    ) -> Result<ExplainedPlacement> {
        deadline(async {
            let client = self.client().await?;
            let mut servers = read_servers(&client, limits).await?;
            let scopes = scopes(&client).await?;
            let source = RequestSource { source, user, scopes: &scopes, action: Action::Deploy, names: None };
            let chosen = choose_place(&client, &mut servers, request, &source, limits).await?;
            let now = Timestamp::now();
            let patience = waits_until(request, now, limits).duration_since(now);
            let patience = Duration::try_from(patience).unwrap_or_default();
            Ok(ExplainedPlacement { server: chosen.server, placement: chosen.report, patience })
        })
        .await
    }
}
