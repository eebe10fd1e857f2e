//! What is said: facts of a result, in the lines of a template, no longer than a channel takes. How a channel writes it is the
//! channel's matter.

pub(crate) mod digest;
pub(crate) mod facts;
pub(crate) mod message_text;
pub(crate) mod template;
