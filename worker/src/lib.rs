//! The worker: takes requests in, carries deployments out under leases, and publishes what came of them.
//!
//! RabbitMQ is the door, PostgreSQL is the memory. A message is acknowledged once its row is committed ([`intake`]); a
//! row that is due is claimed and its pipeline run ([`runner`]); whatever is to be told leaves through an outbox that
//! is written in the same transaction as every change ([`store`]) and published in order ([`relay`]). What a stage does
//! on a server isn't here: that's `slipway-deploy`. What the broker itself gives up is ingested beside it ([`ingest`]).

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
