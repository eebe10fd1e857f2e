//! What keeps the repository easy to enter: no circles among modules, no name for two things, short files, no dead link.
//! Reads the tree's own files; starts no service, no container and no program but `git`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod circles;
mod comments;
mod documents;
mod modules;
mod names;
mod owners;
mod paths;
mod resolve;
mod sizes;
mod threat_model;
mod tree;
mod uses;
