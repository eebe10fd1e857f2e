//! Slipway as a whole: real workers as processes, and from a message in RabbitMQ to what others see of it.
//!
//! Deliberately not here: single stages (`stages`) and the test world itself (`world`).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod cluster;
mod crash_points;
mod demo;
mod deployments;
mod halves;
mod inventory;
mod messages;
mod notify;
mod plan;
mod projects;
mod python;
mod python_rules;
#[path = "../../../worker/tests/services/mod.rs"]
mod services;
mod takeover;
mod trace;
mod unreadable_messages;
mod upgrade;
