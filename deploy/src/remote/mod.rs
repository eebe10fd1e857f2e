//! Everything between this process and a program on the server: the SSH session, the script and its quoting, and what
//! is read back from its output. Which scripts there are, and what their answers mean, is decided in `stages`.

pub(crate) mod failure_phrases;
mod launch;
pub(crate) mod output;
pub(crate) mod places;
pub(crate) mod quote;
pub mod script;
pub mod ssh;
