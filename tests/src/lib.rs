#![doc = include_str!("../README.md")]

pub mod bus;
pub mod checker;
pub mod collector;
pub mod github;
pub mod model;
pub mod observer;
pub mod rig;
pub mod script;
pub mod stack;
pub mod world;
