//! Keeps the runtime's I/O going. A thread of it that is blocked by its task may be the one that waits for sockets and
//! timers; the others sleep, and nobody takes over: leases aren't renewed and connections break, though all that's blocked is
//! one attempt. A thread that does nothing else wakes one of them now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// A blocked thread costs the others so long at most.
const INTERVAL: Duration = Duration::from_millis(500);

/// Wakes the runtime that it was made on, until it's dropped.
pub(super) struct KeepAwake(Arc<AtomicBool>);

impl KeepAwake {
    pub(super) fn start() -> Self {
        let (runtime, ended) = (Handle::current(), Arc::new(AtomicBool::new(false)));
        let stop = ended.clone();
        let waking = move || {
            while !stop.load(Ordering::Acquire) {
                std::thread::sleep(INTERVAL);
                drop(runtime.spawn(std::future::ready(())));
            }
        };
        if let Err(error) = std::thread::Builder::new().name("keep-awake".to_owned()).spawn(waking) {
            tracing::warn!(%error, "an attempt that blocks its thread may cost others their leases: no thread can be made");
        }
        Self(ended)
    }
}

impl Drop for KeepAwake {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
