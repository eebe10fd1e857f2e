#![doc = include_str!("../README.md")]

pub mod bus;
pub mod checker;
pub mod collector;
pub mod github;
pub mod model;
pub mod observer;
pub mod people;
pub mod prober;
pub mod script;
pub mod scripted_world;
pub mod stack;
pub mod workflow;
pub mod world;
