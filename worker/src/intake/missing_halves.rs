//! Halves whose other half hasn't come in time: their senders are told which one is missing and since when. They're kept:
//! the other one is joined with them whenever it comes.

use std::time::Duration;

use slipway_protocol::{ErrorCode, Failure, PartialEnvelope};

use super::admission::log_refusal;
use super::patience::HalfPatience;
use crate::process::Drain;
use crate::store::{RefusedMessage, Store, StoreError, StoredHalf};

/// How often it's looked for halves that another worker has taken in since.
const POLL: Duration = Duration::from_secs(60);
/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);
/// Halves that are looked at together.
const BATCH: u32 = 100;

/// Tells what is missing until the drain begins.
pub struct MissingHalves {
    /// Where halves wait.
    pub store: Store,
    /// How long they do.
    pub patience: HalfPatience,
    /// Ends it between two halves.
    pub drain: Drain,
}

impl MissingHalves {
    /// Works until the drain begins.
    pub async fn run(self) {
        loop {
            let pause = match self.tell_due().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::debug!(%error, "halves of requests can't be looked at for now");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                () = self.patience.begun() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Tells what is due; gives how long there is nothing to do.
    async fn tell_due(&self) -> Result<Duration, StoreError> {
        let due = self.store.overdue_halves(BATCH).await?;
        for (project, half) in &due {
            let refusal = missing(half);
            if self.store.miss_half(*project, half, &refusal).await? {
                log_refusal(&refusal, true);
            }
        }
        let next = self.store.until_next_overdue_half().await?;
        Ok(next.unwrap_or(POLL).clamp(Duration::from_millis(50), POLL))
    }
}

fn missing(half: &StoredHalf) -> RefusedMessage {
    let (failure, known) = match &half.read {
        Ok(request) => {
            let data = &request.event.data;
            let other = data.kind().other().event_type();
            let message = format!(
                "no {other} of {} ({}) has come since {}, when this half of the request came",
                data.project().slug,
                data.project().id,
                half.received_at
            );
            (Failure::new(ErrorCode::MissingHalf, None, message), PartialEnvelope::of_half(request))
        }
        Err(rejection) => (Failure::new(rejection.code, None, rejection.message.clone()), (*rejection.known).clone()),
    };
    RefusedMessage { failure, known, withhold: false }
}
