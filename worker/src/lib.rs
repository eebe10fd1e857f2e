//! worker
pub mod message;
pub mod scheduler;
pub mod spans;
pub mod store;
