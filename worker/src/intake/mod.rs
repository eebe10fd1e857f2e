//! From the broker into the database: requests (`consumer`), what each of them calls for (`admission`), whether that may
//! be (`door`), what two halves come to (`halves`, `missing_halves`), what the broker gave up (`dead_letter_consumer`), and what can't be taken in for now (`held`). A message is acknowledged only after its row is committed. Carrying a
//! deployment out is the matter of `run`.

mod admission;
mod arrived;
pub(crate) mod consumer;
pub(crate) mod dead_letter_consumer;
mod door;
mod envelope;
mod halves;
pub(crate) mod held;
mod joined;
pub(crate) mod missing_halves;
mod repeated_secrets;
mod together;

pub use admission::Admitter;
pub use consumer::RequestConsumer;
pub use dead_letter_consumer::DeadLetterConsumer;
pub use held::{HeldMessages, Holding};
pub use missing_halves::MissingHalves;
