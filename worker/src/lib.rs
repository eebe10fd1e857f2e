//! worker

pub mod admin;
pub mod cli;
pub mod config;
pub mod engine;
pub mod lifecycle;
pub mod readiness;
pub mod telemetry;
