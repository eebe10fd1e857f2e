//! The test world of Slipway and the scenarios that run in it.

pub mod world;
