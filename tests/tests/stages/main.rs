//! What `deploy` does on a real server: connections, single scripts, and all stages of an attempt; what it makes of those
//! who mean harm; and its GitHub client against the strict stand-in.
//!
//! Deliberately not here: anything with a broker, a database or a worker; `e2e` has that.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod front_door;
mod gate;
mod github_client;
mod hostile;
mod pipeline;
mod ssh;
mod unusual_servers;
