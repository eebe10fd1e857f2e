//! The worker: takes requests in, carries deployments out under leases, and publishes what came of them.
//!
//! The modules follow one request. A message is acknowledged once its row is committed ([`intake`]); a row that is due
//! is claimed and its pipeline run ([`run`]); what others must know leaves through an outbox, which is written in the
//! same transaction as every change ([`store`]) and published in order ([`publish`]). [`engine`] puts these parts
//! together, and [`process`] is what surrounds them. What a stage does on a server isn't here: that's `slipway-deploy`.

pub mod amqp;
pub mod config;
pub mod engine;
pub mod failpoint;
pub mod intake;
pub mod message;
pub mod policies;
pub mod process;
pub mod publish;
pub mod run;
pub mod scheduler;
pub mod store;
pub mod telemetry;
