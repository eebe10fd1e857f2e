//! How a message gets to people: one file for each kind of channel. When something is sent, and what becomes of what isn't
//! taken, is decided in the sender.

mod answer;
pub(crate) mod delivery;
mod email;
mod escape;
pub(crate) mod send;
mod signature;
mod slack;
mod telegram;
mod webhook;
