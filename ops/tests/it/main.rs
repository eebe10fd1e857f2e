//! The command line as operators see it: alone (`cli`), and with a real PostgreSQL and a real RabbitMQ (`operations`).

#![expect(clippy::unwrap_used, reason = "tests")]

mod cli;
mod operations;
mod output;
mod program;
#[path = "../../../worker/tests/services/mod.rs"]
mod services;
