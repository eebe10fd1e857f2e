#![doc = include_str!("../README.md")]

pub mod amqp;
pub mod config;
pub mod engine;
pub mod failpoint;
pub mod housekeeping;
pub mod intake;
pub mod message;
pub mod placement;
pub mod policies;
pub mod process;
pub mod publish;
pub mod pushes;
pub mod run;
pub mod scheduler;
pub mod store;
pub mod telemetry;
