//! What the database fails at though it answers others. Messages that can't be taken in are kept byte for byte, so that those
//! behind them go on, and are tried again beside them; who tries, and how often, is decided in `intake::held`. What else there is
//! is listed here, and held where it's written.

pub(super) mod failing;
pub(super) mod give_up;
pub(super) mod rows;
