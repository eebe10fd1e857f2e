#![doc = include_str!("../README.md")]

pub mod admin;
mod admission;
pub mod amqp;
mod announcer;
pub mod cli;
pub mod config;
pub mod crash;
pub mod credentials;
pub mod engine;
pub mod ingest;
pub mod intake;
pub mod lifecycle;
pub mod message;
pub mod metrics;
pub mod policies;
pub mod presence;
pub mod readiness;
pub mod relay;
pub mod runner;
pub mod scheduler;
pub mod store;
pub mod telemetry;
mod trouble;
