//! Whom an event is told to: a small file of channels and rules, checked as a whole before anything is done.

mod address;
mod chat;
mod check;
mod file;
mod mistakes;
pub(crate) mod plan;
pub(crate) mod quiet;
mod secrets;
pub(crate) mod settings;
mod unreached;

pub(crate) use check::read_routing;
pub(crate) use mistakes::Mistake;
