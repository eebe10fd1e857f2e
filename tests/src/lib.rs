//! tests

pub mod github;
