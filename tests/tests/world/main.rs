//! The test world keeps what it promises: servers, the front door's image, sample projects, and the stand-in for GitHub.
//!
//! Deliberately not here: Slipway's own behaviour.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod front_door;
mod github_stand_in;
mod prober;
mod samples;
mod servers;
