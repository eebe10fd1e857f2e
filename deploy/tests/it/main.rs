//! What deploy does with others' answers and files: the GitHub client and sealed secrets, without any server.
//!
//! Deliberately not here: the stages on a real server and the strict GitHub stand-in; the `tests` package has those.

#![expect(clippy::unwrap_used, reason = "tests")]

mod github;
mod mounted_secrets;
mod sealed_secrets;
