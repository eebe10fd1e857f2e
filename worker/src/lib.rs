//! worker

pub mod admin;
pub mod amqp;
pub mod config;
pub mod credentials;
pub mod intake;
pub mod lifecycle;
pub mod message;
pub mod metrics;
pub mod readiness;
pub mod relay;
pub mod runner;
pub mod scheduler;
pub mod store;
pub mod telemetry;
