//! The test world, a stand-in for GitHub, and what the scenarios share.

pub mod bus;
pub mod collector;
pub mod github;
pub mod stack;
pub mod world;
