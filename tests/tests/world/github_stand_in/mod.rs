//! The stand-in for GitHub keeps GitHub's rules. What it lets through here would fail only in production.
//!
//! Deliberately not here: Slipway's own behaviour towards GitHub.

mod api;
mod apps;
mod deployments;
mod git;
mod limits;
mod pushes;
mod secrets;
mod support;
