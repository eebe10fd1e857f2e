//! What of a project serves the web.

use crate::names::ServiceName;
use crate::{Allocation, ProjectReady};

impl ServiceName {
    /// Whether a module of this name serves the web by the template's rules. Any other may be a bot, with or without a
    /// port, and two bots must not run with one token.
    #[must_use]
    pub fn serves_web(&self) -> bool {
        matches!(self.as_str(), "backend" | "frontend")
    }
}

impl Allocation {
    /// Whether its service is known to speak HTTP on its port: the front door passes nothing else on.
    #[must_use]
    pub fn speaks_http(&self) -> bool {
        self.service.serves_web() || self.health.is_some()
    }
}

impl ProjectReady {
    /// The allocation that serves people: the frontend's if there is one, else the backend's.
    #[must_use]
    pub fn web(&self) -> Option<&Allocation> {
        let of = |name: &str| {
            self.allocations.iter().find(|a| a.service.as_str() == name && self.modules.contains(&a.service))
        };
        of("frontend").or_else(|| of("backend"))
    }

    /// Whether the front door may serve it: a module that is known to speak HTTP.
    #[must_use]
    pub fn is_served(&self, allocation: &Allocation) -> bool {
        self.modules.contains(&allocation.service) && allocation.speaks_http()
    }
}
