//! Halves of requests to deploy: of each project the newest of either kind, from when it comes until the project is gone.
//! What follows from one that arrives is decided in `scheduler/halves.rs`, with what is checked at the door; here it's read
//! (`rows`), written (`take`), taken back when somebody cancels it (`withdraw`), and told to be alone when its time is over (`missing`).

pub(super) mod missing;
pub(super) mod rows;
pub(super) mod take;
pub(super) mod withdraw;
