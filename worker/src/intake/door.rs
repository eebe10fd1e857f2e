//! What is asked of a message before it's accepted: has it expired, may its source do that, may its server be deployed to,
//! do its secrets open, and are they told nowhere else. Nothing is written here.

use jiff::Timestamp;
use serde_json::Value;
use slipway_deploy::StageError;
use slipway_protocol::names::VariableName;
use slipway_protocol::{
    Action, CloudEvent, Correlation, DeploymentCancel, ErrorCode, Failure, Message, PartialEnvelope, ProjectId,
    Rejection, Request, Server, ServerCordon,
};

use super::repeated_secrets;
use crate::message::Incoming;
use crate::run::{BroughtSecrets, Credentials};
use crate::scheduler::{Asking, is_allowed, is_allowed_on_some_server, is_impostor};
use crate::store::{DoorFacts, MOVES_SOURCE, ServerRecord, SourceRule, Store, StoreError};

/// What the sources begin with of what Slipway asks for itself: pushes that it deploys, and what follows from moves.
const OWN_SOURCES: [&str; 2] = ["/slipway/pushes/", MOVES_SOURCE];

/// A message, and what the questions about it are answered with.
pub(super) struct Door<'a> {
    store: &'a Store,
    pub credentials: &'a Credentials,
    /// The message, with the user whose request it is: of a replay the one who sent the dead letter, which an operator has
    /// had sent again under the workers' own user.
    pub incoming: Incoming,
    /// Whether an operator has replayed it. A message can say so by itself.
    replayed: bool,
}

impl<'a> Door<'a> {
    pub(super) async fn open(
        store: &'a Store,
        credentials: &'a Credentials,
        read: &Result<Message, Rejection>,
        incoming: &Incoming,
    ) -> Result<Self, StoreError> {
        let replay = match read {
            Ok(Message::Ready(r)) => r.replay,
            Ok(Message::Half(r)) => r.replay,
            Ok(Message::Command(r)) => r.replay,
            Ok(Message::Cancel(r)) => r.replay,
            Ok(Message::Cordon(r)) => r.replay,
            Err(r) => r.known.replay,
        };
        // What an operator edits is a request to deploy. A second one under its id is a duplicate, and does nothing; any
        // other message could name the id and act as whoever sent the first.
        let edited = match read {
            Ok(Message::Ready(r)) => r.event.id.parse().ok().map(|id| (id, r.event.source.as_str())),
            _ => None,
        };
        let sent = match (replay, edited) {
            (Some(replay), _) => store.sender_of_replay(replay, &incoming.body).await?,
            (None, Some((id, source))) => store.sender_of_edited(id, source).await?,
            (None, None) => None,
        };
        let (replayed, user) = (sent.is_some(), sent.unwrap_or_else(|| incoming.user.clone()));
        Ok(Self { store, credentials, incoming: Incoming { user, ..incoming.clone() }, replayed })
    }

    /// A message that nobody has sent again.
    pub(super) fn of_new(store: &'a Store, credentials: &'a Credentials, incoming: &Incoming) -> Self {
        Self { store, credentials, incoming: incoming.clone(), replayed: false }
    }

    /// Checks what only this process can check; gives the secrets that came in a form which any project could have used,
    /// or the failure.
    pub(super) async fn check(&self, request: &Request) -> Result<Result<Vec<VariableName>, Failure>, StoreError> {
        let data = &request.event.data;
        let opened = match self.check_content(request) {
            Ok(opened) => opened,
            Err(failure) => return Ok(Err(failure)),
        };
        let facts = self.facts(data.project.id, data.server.as_ref()).await?;
        let rules = self.store.source_rules(false).await?;
        Ok(match self.check_facts(request, &facts, &rules) {
            Ok(()) => opened.map_err(|error| error.failure(None)),
            Err(failure) => Err(failure),
        })
    }

    /// What is known of a project and a server.
    pub(super) async fn facts(&self, project: ProjectId, server: Option<&Server>) -> Result<DoorFacts, StoreError> {
        let known = match server {
            Some(server) => self.store.server(&server.handle).await?,
            None => None,
        };
        let key = |server: &ServerRecord| server.host_key.as_ref().map(ToString::to_string);
        Ok(DoorFacts {
            slugs: self.store.slugs_of(project).await?.iter().map(ToString::to_string).collect(),
            last: self.store.project_subject(project).await?,
            server: known.map(|server| (server.address.to_string(), key(&server))),
        })
    }

    /// The operators' rules about sources.
    pub(super) async fn rules(&self) -> Result<Vec<SourceRule>, StoreError> {
        self.store.source_rules(false).await
    }

    /// Checks what the message holds. The inner error, of secrets that don't open, counts after all others.
    pub(super) fn check_content(&self, request: &Request) -> Result<Result<Vec<VariableName>, StageError>, Failure> {
        let data = &request.event.data;
        let opened = self.credentials.open_brought(data);
        // First, since of what holds a secret in plain text nothing is kept, whatever else is wrong.
        if let Some(place) = repeated_secrets::find(&self.incoming, &self.credentials.openable(data)) {
            let message = format!("{place} repeats a secret of the same request in plain text");
            return Err(Failure::new(ErrorCode::PlaintextSecret, None, message));
        }
        if let Some(failure) = expiry_failure(data.expires_at) {
            return Err(failure);
        }
        if serde_json::to_value(&request.event).is_ok_and(|event| holds_nul(&event)) {
            return Err(contains_nul());
        }
        Ok(opened.map(|opened| opened.unbound.into_iter().collect()))
    }

    /// Checks whether the source may ask for that, and whether the server may be deployed to.
    pub(super) fn check_facts(
        &self,
        request: &Request,
        facts: &DoorFacts,
        rules: &[SourceRule],
    ) -> Result<(), Failure> {
        let data = &request.event.data;
        let asking = Asking {
            repository: Some(data.repository.name.as_str()),
            server: data.server.as_ref().map(|server| server.handle.as_str()),
            ..self.asking(request, Action::Deploy)
        };
        // The project is whose id this is, with its secrets and what waits of it: who may not deploy that one under the
        // slugs that it has, and from the repository that it's from, may not either under a new one.
        let mut asked: Vec<Asking<'_>> = [data.project.slug.as_str()]
            .into_iter()
            .chain(facts.slugs.iter().map(String::as_str))
            .map(|slug| Asking { project: Some(slug), ..asking })
            .collect();
        if let Some(last) = &facts.last {
            asked.push(Asking { project: last.project.as_deref(), repository: last.repository.as_deref(), ..asking });
        }
        match (asked.iter().find_map(|asking| self.refuse(rules, asking)), &data.server) {
            (Some(failure), _) => Err(failure),
            (None, Some(server)) => self.check_server(server, facts.server.as_ref()),
            // Which servers it may get is asked when one is chosen.
            (None, None) => Ok(()),
        }
    }

    /// Takes what repeats a secret of the request out of what is told about it; without its ids it gets no result.
    pub(super) fn withhold_repeated<'b>(&self, brought: impl Into<BroughtSecrets<'b>>, known: &mut PartialEnvelope) {
        let secrets = self.credentials.openable(brought);
        let repeats = |text: &String| repeated_secrets::repeats(text, &secrets);
        if known.source.as_ref().is_some_and(repeats) || known.id.as_ref().is_some_and(repeats) {
            (known.source, known.id) = (None, None);
        }
        known.event_type = known.event_type.take().filter(|text| !repeats(text));
        known.traceparent = known.traceparent.take().filter(|text| !repeats(text));
    }

    /// The server is one that may be deployed to, and the event doesn't mean another one by its name.
    pub(super) fn check_server(
        &self,
        server: &Server,
        known: Option<&(String, Option<String>)>,
    ) -> Result<(), Failure> {
        let Some((address, host_key)) = known else {
            return self.credentials.server_from_event(server).map(drop).map_err(|error| error.failure(None));
        };
        let stated = server.host_key.as_ref().map(ToString::to_string);
        if host_key.is_some() && stated.is_some() && *host_key != stated {
            let message = format!("the event gives {} another host key than the inventory holds", server.handle);
            return Err(Failure::new(ErrorCode::HostKeyMismatch, None, message));
        }
        if server.address.as_ref().is_some_and(|stated| stated.as_str() != address) {
            tracing::info!(server.handle = %server.handle, "the event gives the server another address; the inventory's counts");
        }
        Ok(())
    }

    /// The refusal, unless the operators' rules allow it.
    fn refuse(&self, rules: &[SourceRule], asking: &Asking<'_>) -> Option<Failure> {
        let scopes = rules.iter().map(|rule| &rule.scope);
        let allowed = match asking.server {
            None if asking.action == Action::Deploy => is_allowed_on_some_server(scopes, asking),
            _ => is_allowed(scopes, asking),
        };
        (!(self.may_be_source(asking.source) && allowed)).then(|| asking.refusal())
    }

    /// The source of a command, which may be anybody's but Slipway's own; what it's about is known only once its
    /// deployment was looked up, and then the rules are asked.
    pub(super) fn check_source<T>(&self, request: &Request<T>, action: Action) -> Option<Failure> {
        let asking = self.asking(request, action);
        (!self.may_be_source(asking.source)).then(|| asking.refusal())
    }

    /// Slipway asks under sources of its own, whose ids can be guessed: from outside only a replay has one.
    pub(super) fn may_be_source(&self, source: &str) -> bool {
        self.replayed || !OWN_SOURCES.iter().any(|own| source.starts_with(own))
    }

    /// Whether a refused message may take the deployment's id that its source and id give: else it would stand in the way
    /// of whoever they really belong to.
    pub(super) async fn may_use_ids(&self, known: &PartialEnvelope) -> Result<bool, StoreError> {
        let Some(source) = known.source.as_deref() else { return Ok(true) };
        let rules = self.store.source_rules(false).await?;
        let scopes = rules.iter().map(|rule| &rule.scope);
        Ok(self.may_be_source(source) && !is_impostor(scopes, source, self.incoming.user.as_deref()))
    }

    /// Whether the deployment may be cancelled by whom the event is from. Of one that hasn't come yet only its event is
    /// known: who sends that may cancel it.
    pub(super) async fn check_cancel(
        &self,
        request: &Request<DeploymentCancel>,
    ) -> Result<Option<Failure>, StoreError> {
        let cancel = &request.event.data;
        let Some(deployment) = cancel.deployment() else { return Ok(None) };
        let subject = self.store.deployment_subject(deployment).await?;
        let own = cancel.request.as_ref().is_some_and(|own| own.source == request.event.source);
        let known = subject.clone().unwrap_or_default();
        let asking = Asking {
            project: known.project.as_deref(),
            repository: known.repository.as_deref(),
            server: known.server.as_deref(),
            ..self.asking(request, Action::Cancel)
        };
        let rules = self.store.source_rules(false).await?;
        let refused = self.refuse(&rules, &asking);
        if subject.is_some() || !own || refused.is_none() {
            return Ok(refused);
        }
        let allowed =
            self.may_be_source(asking.source) && rules.iter().any(|rule| rule.scope.allows_somewhere(&asking));
        Ok(refused.filter(|_| !allowed))
    }

    /// The refusal of a cordon event whose source may not do that to the server.
    pub(super) async fn check_cordon(&self, request: &Request<ServerCordon>) -> Result<Option<Failure>, StoreError> {
        let asking = self.asking(request, Action::Cordon);
        let asking = Asking { server: Some(request.event.data.server.as_str()), ..asking };
        Ok(self.refuse(&self.store.source_rules(false).await?, &asking))
    }

    pub(super) fn asking<'r, T>(&'r self, request: &'r Request<T>, action: Action) -> Asking<'r> {
        let (source, user) = (request.event.source.as_str(), self.incoming.user.as_deref());
        Asking { source, user, action, project: None, repository: None, server: None }
    }
}

pub(super) fn expiry_failure(at: Option<Timestamp>) -> Option<Failure> {
    let expiry = at.filter(|expiry| *expiry <= Timestamp::now())?;
    Some(Failure::new(ErrorCode::ExpiredEvent, None, format!("the request expired at {expiry}")))
}

/// PostgreSQL's text can't hold NUL.
pub(super) fn contains_nul() -> Failure {
    Failure::new(ErrorCode::InvalidField, None, "a text of the event must not hold the character NUL")
}

/// Looks for NUL in those fields of a command that may hold any text; decoding has checked the others.
pub(super) fn nul_failure<T>(event: &CloudEvent<T>, correlation: &Correlation) -> Option<Failure> {
    let trace = event.traceparent.as_deref().is_some_and(|text| text.contains('\0'));
    (trace || holds_nul(&Value::Object(correlation.clone()))).then(contains_nul)
}

pub(super) fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
