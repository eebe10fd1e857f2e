//! worker

pub mod admin;
pub mod config;
pub mod lifecycle;
pub mod readiness;
pub mod telemetry;
