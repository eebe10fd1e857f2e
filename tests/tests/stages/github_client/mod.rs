//! Slipway's GitHub client against the strict stand-in.
//!
//! Deliberately not here: answers that the stand-in doesn't give; `deploy` tests those against made-up ones.

mod credentials;
mod deployments;
mod described;
mod refusals;
mod support;
mod works;
