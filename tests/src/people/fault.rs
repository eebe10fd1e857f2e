//! PlantedChatFaults that a test plants: the next requests meet them, one each.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatFault {
    /// Refused for so many seconds, as by the service's own limit. Whoever comes earlier is written down.
    Limit(u64),
    /// Refused with this status and body; nothing is carried out.
    Refuse(u16, &'static str),
    /// Carried out, and answered with a 502 all the same: the client can't know.
    LostAnswer,
    /// Carried out, and never answered.
    NoAnswer,
}

/// The planted faults, and the limit that holds.
#[derive(Debug, Default)]
pub(super) struct PlantedChatFaults {
    planted: Mutex<VecDeque<ChatFault>>,
    limited_until: Mutex<Option<Instant>>,
    early: Mutex<u64>,
}

impl PlantedChatFaults {
    pub(super) fn plant(&self, fault: ChatFault) {
        self.planted.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    /// How many requests came while a limit held.
    pub(super) fn early(&self) -> u64 {
        *self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next request meets.
    pub(super) fn next(&self) -> Option<ChatFault> {
        let mut limited = self.limited_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = limited.and_then(|until| until.checked_duration_since(Instant::now())) {
            *self.early.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            return Some(ChatFault::Limit(left.as_secs() + 1));
        }
        let fault = self.planted.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(ChatFault::Limit(seconds)) = fault {
            *limited = Some(Instant::now() + Duration::from_secs(seconds));
        }
        fault
    }
}
