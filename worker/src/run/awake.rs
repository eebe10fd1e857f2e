//! Keeps the runtime's I/O going while attempts run. A thread of it that is blocked by its task may be the one that waits for
//! sockets and timers; the others sleep, and nobody takes over: leases aren't renewed and connections break, though all that's
//! blocked is one attempt. A thread that does nothing else wakes one of them now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Duration;

use tokio::runtime::Handle;

/// A blocked thread costs the others so long at most.
const INTERVAL: Duration = Duration::from_millis(500);

/// Wakes the runtime that it was made on, until it's dropped, while it's told that something runs there.
pub(super) struct KeepAwake {
    signals: Arc<AwakeSignals>,
    thread: Option<Thread>,
}

#[derive(Default)]
struct AwakeSignals {
    wakes: AtomicBool,
    ended: AtomicBool,
}

impl KeepAwake {
    pub(super) fn start() -> Self {
        let (runtime, signals) = (Handle::current(), Arc::<AwakeSignals>::default());
        let told = signals.clone();
        let waking = move || {
            while !told.ended.load(Ordering::Acquire) {
                if told.wakes.load(Ordering::Acquire) {
                    std::thread::sleep(INTERVAL);
                    drop(runtime.spawn(std::future::ready(())));
                } else {
                    std::thread::park();
                }
            }
        };
        let thread = match std::thread::Builder::new().name("keep-awake".to_owned()).spawn(waking) {
            Ok(handle) => Some(handle.thread().clone()),
            Err(error) => {
                tracing::warn!(%error, "an attempt that blocks its thread may cost others their leases: no thread can be made");
                None
            }
        };
        Self { signals, thread }
    }

    /// Says whether attempts run. A worker that has none costs nothing.
    pub(super) fn wake(&self, while_attempts_run: bool) {
        if self.signals.wakes.swap(while_attempts_run, Ordering::AcqRel) != while_attempts_run {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl Drop for KeepAwake {
    fn drop(&mut self) {
        self.signals.ended.store(true, Ordering::Release);
        self.unpark();
    }
}
