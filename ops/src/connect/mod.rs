//! The connections to Postgres and RabbitMQ: their settings, and errors that say what to do. What is asked there is each
//! command's own matter.

pub(crate) mod broker;
pub(crate) mod settings;
pub(crate) mod store;
