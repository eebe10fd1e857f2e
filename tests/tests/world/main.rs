//! The test world keeps what it promises: servers, sample projects, and the stand-in for GitHub.
//!
//! Deliberately not here: Slipway's own behaviour.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod github_stand_in;
mod samples;
mod servers;
