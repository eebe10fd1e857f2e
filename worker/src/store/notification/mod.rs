//! What people have to be told, who tells it, and what was told: the memory of `slipway notify`. What is told to whom, and how,
//! is decided there.

pub(super) mod channels;
pub(super) mod claim;
pub(super) mod intend;
pub(super) mod outcome;
pub(super) mod overview;
