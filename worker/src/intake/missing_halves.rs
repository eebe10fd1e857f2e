//! Halves whose other half hasn't come in time: their senders are told which one is missing and since when. They're kept:
//! the other one is joined with them whenever it comes.

use slipway_protocol::{ErrorCode, Failure, PartialEnvelope};

use super::admission::log_refusal;
use crate::process::Drain;
use crate::store::{RefusedMessage, Store, StoreError, StoredHalf};

/// Halves that are looked at together.
const BATCH: u32 = 100;

/// Tells what is missing until the drain begins.
pub struct MissingHalves {
    /// Where halves wait.
    pub store: Store,
    /// Ends it between two halves.
    pub drain: Drain,
}

impl MissingHalves {
    /// Works until the drain begins.
    pub async fn run(self) {
        let wakeups = self.store.listen();
        loop {
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                () = wakeups.half() => {}
            }
            // What fails is told again at a later turn.
            if let Err(error) = self.tell_due().await {
                tracing::debug!(%error, "halves of requests can't be looked at for now");
            }
        }
    }

    /// Tells what is due.
    async fn tell_due(&self) -> Result<(), StoreError> {
        loop {
            let due = self.store.overdue_halves(BATCH).await?;
            let mut failed = None;
            for (project, half) in &due {
                if self.drain.has_begun() {
                    return Ok(());
                }
                let refusal = missing(half);
                match self.store.miss_half(*project, half, &refusal).await {
                    Ok(true) => log_refusal(&refusal, true),
                    Ok(false) => {}
                    Err(error) if error.is_away() => return Err(error),
                    // Those behind it don't wait for it.
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if due.len() < BATCH as usize {
                return Ok(());
            }
        }
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
