//! What is remembered of a deployment from its request to its end: its state, its lease, its journal and its place
//! among the others of its project. The events that tell of it are in the outbox.

pub(super) mod accept;
pub(super) mod accept_plain;
pub(super) mod basis;
pub(super) mod cancel;
pub(super) mod claim;
pub(super) mod command;
pub(super) mod finish;
pub(super) mod github_digests;
pub(super) mod head;
pub(super) mod history;
pub(super) mod insert;
pub(super) mod interruption;
pub(super) mod journal;
pub(super) mod lease;
pub(super) mod list;
pub(super) mod locked;
pub(super) mod order;
pub(super) mod places;
pub(super) mod queue;
pub(super) mod refuse;
pub(super) mod renewal;
pub(super) mod retry;
pub(super) mod seen;
pub(super) mod selection;
pub(super) mod skipped;
pub(super) mod state;
pub(super) mod superseding;
pub(super) mod unproven;
pub(super) mod unreachable;
pub(super) mod versions;
