//! Gives requests that wait for a server one, whenever something may have made room: a request has come, or a turn of the
//! fleet has told that some wait. Any worker may do it; one choice follows the other.

use std::time::Duration;

use crate::process::Drain;
use crate::scheduler::PlacementLimits;
use crate::store::{Store, StoreError, spread};
use crate::telemetry::OutageLog;

/// How long to wait, at most, while another worker chooses.
const WHILE_BUSY: Duration = Duration::from_millis(100);
/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Places what waits.
pub struct Placer {
    /// Where requests wait, and servers are known.
    pub store: Store,
    /// What bounds every choice.
    pub limits: PlacementLimits,
    /// Ends the placing as soon as it begins.
    pub drain: Drain,
}

impl Placer {
    /// Works until the drain begins.
    pub async fn run(self) {
        let (mut outages, wakeups) = (OutageLog::new("placement"), self.store.listen());
        while !self.drain.has_begun() {
            let placed = self.place_all().await;
            let failed = placed.is_err();
            outages.record(placed);
            tokio::select! {
                () = self.drain.token().cancelled() => return,
                () = wakeups.placement() => {}
                () = tokio::time::sleep(AFTER_FAILURE), if failed => {}
            }
        }
    }

    /// Looks at all that wait, page by page.
    async fn place_all(&self) -> Result<(), StoreError> {
        let mut after = Some(0);
        while let Some(from) = after.take().filter(|_| !self.drain.has_begun()) {
            let pass = self.store.place_waiting(&self.limits, from).await?;
            after = pass.after;
            if pass.busy {
                // What it doesn't know of yet may have come since it has looked.
                tokio::time::sleep(spread(WHILE_BUSY)).await;
                after = Some(from);
            }
        }
        Ok(())
    }
}
