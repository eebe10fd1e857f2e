//! What two halves ask for together: the message that would have asked for it, read and checked as one that came. The
//! sources of both must be allowed to, and neither half may tell what is sealed in the other.

use std::collections::BTreeMap;

use slipway_protocol::names::VariableName;
use slipway_protocol::{
    Action, CONTENT_TYPE, ErrorCode, EventType, Failure, HalfKind, Message, PartialEnvelope, ProjectHalf, Request,
    join, topology,
};

use super::admission::Admitter;
use super::door::{Door, expiry_failure, nul_failure};
use super::envelope::read_envelope;
use super::repeated_secrets;
use crate::message::Incoming;
use crate::scheduler::Asking;
use crate::store::{RefusedMessage, StoreError};

/// The request that two halves make.
pub(super) struct JoinedRequest {
    /// The message.
    pub incoming: Incoming,
    /// The request and its secrets in an old form, or why it's refused.
    pub checked: Result<(Box<Request>, Vec<VariableName>), Box<RefusedMessage>>,
}

impl Admitter {
    /// What both sides ask for, the arriving one first; and, where the arriving one's source may not ask for it, that
    /// failure. `place_left`: the project was moved away from where the kept one has it, and stays where it is.
    pub(super) async fn joined(
        &self,
        sides: &[(&Request<ProjectHalf>, &Incoming); 2],
        place_left: bool,
    ) -> Result<(JoinedRequest, Option<Failure>), StoreError> {
        let incoming = joined_message(sides, place_left);
        let read = slipway_protocol::read(&incoming.body, &incoming.metadata());
        let refused = |failure, known| Err(Box::new(RefusedMessage { failure, known, withhold: false }));
        let request = match read {
            Ok(Message::Ready(request)) => request,
            Ok(_) => {
                let failure = Failure::new(ErrorCode::InternalError, None, "two halves make no request to deploy");
                let checked = refused(failure, PartialEnvelope::default());
                return Ok((JoinedRequest { incoming, checked }, None));
            }
            Err(rejection) => {
                let failure = Failure::new(rejection.code, None, rejection.message);
                let withhold = rejection.code == ErrorCode::PlaintextSecret;
                let checked = Err(Box::new(RefusedMessage { failure, known: *rejection.known, withhold }));
                return Ok((JoinedRequest { incoming, checked }, None));
            }
        };
        let rules = self.store.source_rules(false).await?;
        for (at, (half, own)) in sides.iter().enumerate() {
            let mut asked = request.clone();
            asked.event.source.clone_from(&half.event.source);
            let door = Door::of_new(&self.store, &self.credentials, own);
            let facts = door.facts(asked.event.data.project.id, asked.event.data.server.as_ref()).await?;
            match door.check_facts(&asked, &facts, &rules) {
                Err(failure) if at == 0 && failure.code == ErrorCode::SourceNotAllowed => {
                    let checked = refused(failure.clone(), PartialEnvelope::default());
                    return Ok((JoinedRequest { incoming, checked }, Some(failure)));
                }
                Err(failure) => {
                    let checked = refused(failure, read_envelope(&Ok(Message::Ready(request))).0);
                    return Ok((JoinedRequest { incoming, checked }, None));
                }
                Ok(()) => {}
            }
        }
        let door = Door::of_new(&self.store, &self.credentials, &incoming);
        let checked = match door.check(&request).await? {
            Ok(unbound) => Ok((request, unbound)),
            Err(failure) => refused(failure, read_envelope(&Ok(Message::Ready(request))).0),
        };
        Ok((JoinedRequest { incoming, checked }, None))
    }
}

impl Door<'_> {
    /// Checks a half as far as it goes, before anything is kept of it; gives the failure with which it must be refused.
    pub(super) async fn check_half(&self, half: &Request<ProjectHalf>) -> Result<Option<Failure>, StoreError> {
        let data = &half.event.data;
        if let ProjectHalf::Engineering(code) = data
            && let Some(place) = repeated_secrets::find(&self.incoming, &self.credentials.openable(code))
        {
            return Ok(Some(repeats(&place)));
        }
        let failure = expiry_failure(data.expires_at()).or_else(|| nul_failure(&half.event, data.correlation()));
        if failure.is_some() {
            return Ok(failure);
        }
        let envelope = PartialEnvelope::of_half(half);
        let asking = Asking {
            project: Some(data.project().slug.as_str()),
            repository: envelope.repository.as_ref().map(|name| name.as_str()),
            server: envelope.server.as_ref().map(|handle| handle.as_str()),
            ..self.asking(half, Action::Deploy)
        };
        let rules = self.rules().await?;
        let may = rules.is_empty() || rules.iter().any(|rule| rule.scope.may_allow(&asking));
        if !self.may_be_source(asking.source) || !may {
            return Ok(Some(asking.refusal()));
        }
        Ok(match data {
            ProjectHalf::Engineering(code) => {
                self.credentials.open_brought(code).err().map(|error| error.failure(None))
            }
            ProjectHalf::Resources(place) => {
                let facts = self.facts(place.project.id, Some(&place.server)).await?;
                self.check_server(&place.server, facts.server.as_ref()).err()
            }
        })
    }
}

/// The message that would have asked for what both halves ask for.
fn joined_message(sides: &[(&Request<ProjectHalf>, &Incoming); 2], place_left: bool) -> Incoming {
    let (mut code, mut place) = (None, None);
    for (half, incoming) in sides {
        match half.event.data.clone() {
            ProjectHalf::Engineering(data) => code = Some((half.event.clone().map(|_| data), incoming)),
            ProjectHalf::Resources(data) => place = Some(half.event.clone().map(|_| data)),
        }
    }
    let (Some((code, from)), Some(place)) = (code, place) else { return Incoming::default() };
    let mut joined = join(&code, &place);
    if place_left {
        joined.data.server = None;
        joined.data.allocations.iter_mut().for_each(|allocation| allocation.host_port = None);
    }
    let replay = sides[0].0.replay.map(|replay| (topology::REPLAY_HEADER.to_owned(), replay.to_string()));
    Incoming {
        body: serde_json::to_vec(&joined).unwrap_or_default(),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers: BTreeMap::from_iter(replay),
        exchange: topology::REQUESTS.to_owned(),
        routing_key: EventType::ProjectReady.as_str().to_owned(),
        user: from.user.clone(),
    }
}

/// Whether the allocation tells a secret of the code in plain text.
pub(super) fn leak(sides: &[(&Request<ProjectHalf>, &Incoming); 2], door: &Door<'_>) -> Option<Failure> {
    let code = sides.iter().find_map(|(half, _)| match &half.event.data {
        ProjectHalf::Engineering(code) => Some(code),
        ProjectHalf::Resources(_) => None,
    })?;
    let (_, place) = sides.iter().find(|(half, _)| half.event.data.kind() == HalfKind::Resources)?;
    repeated_secrets::find(place, &door.credentials.openable(code)).map(|place| repeats(&place))
}

fn repeats(place: &str) -> Failure {
    let message = format!("{place} repeats a secret of the same request in plain text");
    Failure::new(ErrorCode::PlaintextSecret, None, message)
}
