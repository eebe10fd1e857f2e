//! worker

pub mod admin;
pub mod amqp;
pub mod config;
pub mod lifecycle;
pub mod message;
pub mod readiness;
pub mod scheduler;
pub mod store;
pub mod telemetry;
