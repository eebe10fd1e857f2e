//! One trick of a hostile server. Which there are is in `tricks`.

use slipway_protocol::{ErrorCode, Stage};

use super::machine::{Answer, Manner};

/// What a trick may lead to.
pub enum TrickEnd {
    /// The stage's success, bounded and clean like everything else.
    Success,
    Fails(&'static [ErrorCode]),
}

/// See the module.
pub struct ServerTrick {
    pub name: &'static str,
    pub stage: Stage,
    pub manner: Manner,
    pub answer: Answer,
    pub outcome: TrickEnd,
}

impl ServerTrick {
    /// Whether only a deadline ends it.
    pub fn is_endless(&self) -> bool {
        matches!(self.outcome, TrickEnd::Fails(codes) if codes.contains(&ErrorCode::DeadlineExceeded))
    }
}
