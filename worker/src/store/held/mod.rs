//! Messages that couldn't be taken in though the database answers others. They are kept byte for byte, so that those
//! behind them go on, and are tried again beside them; who tries, and how often, is decided in `intake::held`.

pub(super) mod give_up;
pub(super) mod rows;
