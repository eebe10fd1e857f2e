//! The outbox: messages that are written in the transaction of what they are about, and published afterwards.

pub(super) mod enqueue;
pub(super) mod event_sequence;
pub(super) mod github_status;
pub(super) mod held_marks;
pub(super) mod history;
pub(super) mod of_deployment;
pub(super) mod relay_lease;
pub(super) mod render;
pub(super) mod rows;
pub(super) mod set_aside;
