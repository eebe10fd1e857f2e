//! The project's environment: which variables it gets and from where ([`plan`]), what the project itself declares about
//! them ([`contract`]), whose values are there already ([`kept`]), and how the file is written ([`dotenv`],
//! [`expression`], [`notes`]). How
//! the file gets onto the server is decided in `stages::env`.

pub(crate) mod contract;
mod database;
pub(crate) mod describe;
pub(crate) mod dotenv;
pub(crate) mod expression;
pub(crate) mod kept;
pub(crate) mod notes;
pub(crate) mod plan;
pub(crate) mod variables;
