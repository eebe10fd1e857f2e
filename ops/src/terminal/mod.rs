//! What a person at the terminal sees and answers: printing, questions, errors and what is left out of what is shown.
//! What is asked of Postgres and RabbitMQ is in `connect`.

pub(crate) mod confirm;
pub(crate) mod error;
pub(crate) mod fit;
pub(crate) mod format;
pub(crate) mod print;
pub(crate) mod redact;
