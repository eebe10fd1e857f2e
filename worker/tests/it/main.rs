//! The worker on a real PostgreSQL and a real RabbitMQ, with a scripted pipeline: a module for each subject, in one binary,
//! since each binary costs a link at every change.
//!
//! Deliberately not here: workers as processes on real servers; the `tests` package has those.

#![expect(clippy::unwrap_used, reason = "tests")]

mod admin;
mod announcements;
mod attempts;
mod broker_restart;
mod commands;
mod config;
mod dead_letters;
mod edges;
mod engine;
mod failover;
mod faults;
mod fleet;
mod growth;
mod halves;
mod housekeeping;
mod intake;
mod large_upgrade;
mod limits;
mod logged;
mod order;
mod placement;
mod policies;
mod poolers;
mod producers;
mod relay;
#[path = "../services/mod.rs"]
mod services;
mod set_aside;
mod store;
mod telemetry;
mod tls;
mod together;
mod webhooks;
