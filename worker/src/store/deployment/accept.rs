//! Accepting a valid request to deploy, in one transaction: it becomes one deployment, or it was here before. Commands
//! are accepted in `command`, and what can't be accepted goes to `refuse`.

use slipway_protocol::names::VariableName;
use slipway_protocol::{Action, Request};

use crate::failpoint::TransactionKind;
use crate::message::Incoming;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::dead_letter::replay::replay_of;
use crate::store::deployment::insert::NewDeployment;
use crate::store::deployment::superseding::{Admission, IncomingRequest};
use crate::store::owners::claim::claim_owned;
use crate::store::pushes::watch::watch;
use crate::store::{Result, Store};

impl Store {
    /// Stores a valid request to deploy. An older request for the same project that still waits is superseded, one that
    /// runs is asked to stop; a request that is older than what is here is superseded at once. One whose slug or whose
    /// repository's CI is another project's is to be refused, and nothing is written.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn accept(&self, request: &Request, incoming: &Incoming) -> Result<Admission> {
        self.accept_telling(request, incoming, &[]).await
    }

    /// As [`Store::accept`], and tells of secrets that came in a form which any project could have used.
    ///
    /// # Errors
    /// As [`Store::accept`].
    pub async fn accept_telling(
        &self,
        request: &Request,
        incoming: &Incoming,
        unbound_secrets: &[VariableName],
    ) -> Result<Admission> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let accepted = self.accept_in(&tx, request, incoming, unbound_secrets).await?;
            if !matches!(accepted, Admission::Refused(_)) {
                commit(tx, TransactionKind::Accept).await?;
            }
            if request.event.data.server.is_none() {
                self.heard.placements.notify_one();
            }
            Ok(accepted)
        })
        .await
    }

    /// As [`Store::accept_telling`], within a transaction: what is refused mustn't be committed.
    pub(in crate::store) async fn accept_in(
        &self,
        tx: &StoreTransaction<'_>,
        request: &Request,
        incoming: &Incoming,
        unbound_secrets: &[VariableName],
    ) -> Result<Admission> {
        let accepted = self.insert_request(tx, request, incoming, unbound_secrets).await?;
        if accepted == Admission::New {
            let data = &request.event.data;
            // Without a server there is nothing yet that could be claimed.
            if let Some(server) = &data.server
                && let Err(failure) = claim_owned(tx, Action::Deploy, &data.project, &server.handle, data).await?
            {
                return Ok(Admission::Refused(failure));
            }
            watch(tx, data).await?;
        }
        Ok(accepted)
    }

    /// Stores a request to deploy and gives it its place among the project's others.
    pub(in crate::store) async fn insert_request(
        &self,
        tx: &StoreTransaction<'_>,
        request: &Request,
        incoming: &Incoming,
        unbound_secrets: &[VariableName],
    ) -> Result<Admission> {
        let data = &request.event.data;
        let mut arriving = IncomingRequest::lock(tx, request.deployment_id(), data.project.id, Action::Deploy).await?;
        arriving.unbound_secrets = unbound_secrets.to_vec();
        let new = NewDeployment {
            project: &data.project,
            repository: &data.repository.name,
            commit: &data.repository.commit,
            server: data.server.as_ref().map(|server| &server.handle),
            acting: readable("deployments", "request", serde_json::to_value(&request.event))?,
            correlation: &data.correlation,
            sequence: data.sequence,
            action: Action::Deploy,
            remove_volumes: false,
            acts_on: None,
            moves: None,
            reason: None,
            unbound_secrets,
        };
        let Some(order) = new.insert(tx, request, incoming).await? else { return Ok(Admission::Duplicate) };
        let replay = replay_of(request);
        self.place_among_contenders(tx, &arriving, new.server, order, replay).await
    }
}
