//! The project's environment: which variables it gets and from where ([`plan`]), and how the file is written
//! ([`dotenv`]). How the file gets onto the server is the stage's job.

mod database;
pub mod describe;
pub mod dotenv;
pub mod plan;
