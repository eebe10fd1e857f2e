//! One half of a request: what it comes to with what is known of its project. Alone it's checked as far as it goes; with the
//! other one it makes a request that is read and checked as any that came whole (`joined`).

use jiff::Timestamp;
use slipway_protocol::{ErrorCode, Failure, HalfKind, Message, PartialEnvelope, ProjectHalf, Request};

use super::admission::{Admitter, log_admission, log_refusal, note_unbound};
use super::door::Door;
use super::envelope::read_envelope;
use super::joined::leak;
use crate::message::Incoming;
use crate::scheduler::{HalfVerdict, HalfView, KeptHalf, Order, happened_at};
use crate::store::{
    Admission, ArrivingHalf, HalfOutcome, HalfStep, KnownHalves, RefusedMessage, StoreError, StoredHalf, placed,
};
use crate::telemetry::Metrics;

impl Admitter {
    /// Takes a half in, or gives the refusal with which it must end.
    pub(super) async fn take_half(
        &self,
        half: &Request<ProjectHalf>,
        door: &Door<'_>,
    ) -> Result<Option<RefusedMessage>, StoreError> {
        let data = &half.event.data;
        let mut known = self.store.known_halves(data.project(), half.deployment_id()).await?;
        if known.is_duplicate {
            log_half(half, "duplicate");
            return Ok(None);
        }
        if let Some(failure) = door.check_half(half).await? {
            return Ok(Some(refused_half(half, failure, door)));
        }
        loop {
            match self.decide(half, door, &known).await? {
                Err(refusal) => return Ok(Some(refusal)),
                Ok(HalfOutcome::Outdated) => {
                    known = self.store.known_halves(data.project(), half.deployment_id()).await?;
                }
                Ok(_) => return Ok(None),
            }
        }
    }

    /// What follows from a half by what is known, written; or the refusal of the half itself.
    async fn decide(
        &self,
        half: &Request<ProjectHalf>,
        door: &Door<'_>,
        known: &KnownHalves,
    ) -> Result<Result<HalfOutcome, RefusedMessage>, StoreError> {
        let data = &half.event.data;
        let (own, other) = (known.of(data.kind()), known.of(data.kind().other()));
        let other = other.filter(|other| holds(other, known.now));
        let kept = own.map(|own| KeptHalf {
            order: own.order,
            joined_as: own.joined_as.filter(|made| other.is_some_and(|other| other.joined_as == Some(*made))),
            allocates_the_same: holds(own, known.now)
                && own.read.as_ref().is_ok_and(|kept| kept.event.data.allocates_the_same(data)),
        });
        let time = happened_at(half.event.time, known.now);
        let order = Order { sequence: data.sequence(), time, arrival: 1 };
        let view = HalfView { order, replayed: half.replay.is_some(), kept, has_other: other.is_some() };
        let arriving = ArrivingHalf { request: half, incoming: &door.incoming, place: view.kept_as(), known };
        let (verdict, step) = match view.decide() {
            HalfVerdict::Stale(by) => ("superseded", HalfStep::Stale(by)),
            HalfVerdict::Unchanged(by) => ("superseded", HalfStep::Unchanged(by)),
            HalfVerdict::Waits => ("waits", HalfStep::Waits(self.half_timeout)),
            HalfVerdict::Joins => match other {
                Some(other) => return self.join_halves(arriving, door, other).await,
                None => ("waits", HalfStep::Waits(self.half_timeout)),
            },
        };
        let outcome = self.store.take_half(arriving, step).await?;
        match outcome {
            HalfOutcome::Taken => log_half(half, verdict),
            HalfOutcome::Duplicate => log_half(half, "duplicate"),
            _ => {}
        }
        Ok(Ok(outcome))
    }

    /// Makes a deployment of both halves, or ends what they ask for as refused; the inner error: the arriving one itself
    /// may not do that.
    async fn join_halves(
        &self,
        arriving: ArrivingHalf<'_>,
        door: &Door<'_>,
        other: &StoredHalf,
    ) -> Result<Result<HalfOutcome, RefusedMessage>, StoreError> {
        let Ok(kept) = &other.read else { return Ok(Ok(HalfOutcome::Outdated)) };
        let half = placed(arriving.request.clone(), &arriving.place);
        let sides = [(&half, &door.incoming), (kept, &other.incoming)];
        let place_left = other.place_left;
        if let Some(failure) = leak(&sides, door) {
            if kept.event.data.kind() == HalfKind::Resources {
                self.store.forget_half(other.id).await?;
            }
            return Ok(Err(refused_half(arriving.request, failure, door)));
        }
        let (joined, own_failure) = self.joined(&sides, place_left).await?;
        if let Some(failure) = own_failure {
            return Ok(Err(refused_half(arriving.request, failure, door)));
        }
        let (request, unbound_secrets) = match &joined.checked {
            Ok(checked) => checked,
            Err(refusal) => return self.fail(arriving, refusal, &joined.incoming).await.map(Ok),
        };
        let incoming = &joined.incoming;
        let step = HalfStep::Joins { request, incoming, unbound_secrets };
        let outcome = self.store.take_half(arriving, step).await?;
        match &outcome {
            HalfOutcome::Joined(admission) => {
                if *admission == Admission::New {
                    note_unbound(request, unbound_secrets);
                }
                log_admission(admission, request, "deploy", request.event.data.project.slug.as_str());
            }
            HalfOutcome::Duplicate => log_half(arriving.request, "duplicate"),
            HalfOutcome::Refused(failure) => {
                let known = read_envelope(&Ok(Message::Ready(request.clone()))).0;
                let refusal = RefusedMessage { failure: failure.clone(), known, withhold: false };
                return self.fail(arriving, &refusal, incoming).await.map(Ok);
            }
            HalfOutcome::Taken | HalfOutcome::Outdated => {}
        }
        Ok(Ok(outcome))
    }

    async fn fail(
        &self,
        arriving: ArrivingHalf<'_>,
        refusal: &RefusedMessage,
        incoming: &Incoming,
    ) -> Result<HalfOutcome, StoreError> {
        let outcome = self.store.take_half(arriving, HalfStep::Fails { refusal, incoming }).await?;
        if outcome == HalfOutcome::Taken {
            log_refusal(refusal, true);
        }
        Ok(outcome)
    }
}

/// Whether a half may still be acted on.
fn holds(half: &StoredHalf, now: Timestamp) -> bool {
    half.read.as_ref().is_ok_and(|half| half.event.data.expires_at().is_none_or(|expiry| expiry > now))
}

/// The refusal of a half alone. What held a secret in plain text is told as little of as of a request that did.
fn refused_half(half: &Request<ProjectHalf>, failure: Failure, door: &Door<'_>) -> RefusedMessage {
    let mut known = PartialEnvelope::of_half(half);
    let withhold = failure.code == ErrorCode::PlaintextSecret;
    if withhold {
        known.correlation.clear();
        if let ProjectHalf::Engineering(code) = &half.event.data {
            door.withhold_repeated(code, &mut known);
        }
    }
    RefusedMessage { failure, known, withhold }
}

fn log_half(half: &Request<ProjectHalf>, verdict: &'static str) {
    let id = half.deployment_id();
    Metrics::get().taken_in(verdict);
    let (kind, slug) = (half.event.data.kind().as_str(), half.event.data.project().slug.as_str());
    tracing::info!(half.id = %id, half.kind = kind, project.slug = slug, verdict, "one half of a request taken in");
}
