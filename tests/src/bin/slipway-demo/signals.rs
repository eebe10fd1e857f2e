//! Ctrl-C and its like: the first interrupts every wait, so that all is taken down in order; the second leaves at once.
//! Even then nothing stays running, since the world ends with this process; only its folder waits for the next world.

use anyhow::Result;
use slipway_tests::world::interrupt;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell shows for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// Listens from now on, on a thread of its own.
pub(crate) fn listen() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupted, mut terminated, mut hung_up) = {
        let _entered = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let may_leave = tokio::select! {
                    _ = interrupted.recv() => true,
                    _ = terminated.recv() => true,
                    // A terminal that is closed after Ctrl-C is no wish to leave a mess.
                    _ = hung_up.recv() => false,
                };
                if interrupt() && may_leave {
                    std::process::exit(i32::from(INTERRUPTED));
                }
            }
        });
    });
    Ok(())
}
