//! What deploy does without any server: the GitHub client, sealed secrets, and what it makes of settings.
//!
//! Deliberately not here: the stages on a real server and the strict GitHub stand-in; the `tests` package has those.

#![expect(clippy::unwrap_used, reason = "tests")]

mod front_door;
mod github;
mod mounted_secrets;
mod sealed_secrets;
mod source_digest;
