//! Dead letters: how one is written, read, archived and sent again.

pub(super) mod archive;
pub(super) mod from_broker;
pub(super) mod insert;
pub(super) mod list;
pub(super) mod refusal;
pub(super) mod replay;
pub(super) mod replay_plan;
