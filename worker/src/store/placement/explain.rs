//! What would be chosen for a request if it came now. Nothing is written, and nobody is waited for.

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, Placement, ProjectReady};

use crate::scheduler::PlacementLimits;
use crate::store::connection::deadline::deadline;
use crate::store::placement::choice::choose_place;
use crate::store::placement::request::RequestSource;
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
            Ok(ExplainedPlacement { server: chosen.server, placement: chosen.report })
        })
        .await
    }
}
