//! Faults a test plants: the next requests that match fail in the way it says.
//!
//! Deliberately not here: chance. A fault hits when it is told to, so that a failing test fails again.

use std::time::Duration;

use axum::http::Method;

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StandInServer {
    /// api.github.com
    Api,
    /// github.com
    Git,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultEffect {
    /// Answered with this status and what GitHub's edge says with it; nothing is carried out.
    Status(u16),
    /// Carried out and answered, but only after this long.
    Slow(Duration),
    /// The connection ends without an answer and nothing is carried out: the server is down.
    Cut,
    /// Carried out, but the connection ends in place of the answer: the client can't know.
    LostAnswer,
    /// Carried out, but the answer's body breaks off after so many bytes.
    CutBody(usize),
    /// Refused by the secondary rate limit with this status, 403 or 429, and `retry-after` in seconds if given.
    SecondaryLimit {
        /// GitHub uses both.
        status: u16,
        /// GitHub often leaves it out.
        retry_after: Option<u64>,
    },
}

/// One planted fault.
#[derive(Debug, Clone)]
pub struct PlantedFault {
    server: StandInServer,
    method: Option<Method>,
    path_prefix: String,
    times: usize,
    effect: FaultEffect,
}

impl PlantedFault {
    /// Hits the next request of that server whose path begins with `path_prefix`; GitHub's paths ignore case.
    #[must_use]
    pub fn next(server: StandInServer, path_prefix: &str, effect: FaultEffect) -> Self {
        Self { server, method: None, path_prefix: path_prefix.to_ascii_lowercase(), times: 1, effect }
    }

    /// Only this method; the others pass.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Hits so many requests; `usize::MAX` is until the faults are cleared.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    fn matches(&self, server: StandInServer, method: &Method, path: &str) -> bool {
        self.server == server
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
            && path.to_ascii_lowercase().starts_with(&self.path_prefix)
    }
}

/// The faults still to come, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<PlantedFault>);

impl Faults {
    pub(super) fn plant(&mut self, fault: PlantedFault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Uses up one hit of the oldest fault that matches.
    pub(super) fn hit(&mut self, server: StandInServer, method: &Method, path: &str) -> Option<FaultEffect> {
        let fault = self.0.iter_mut().find(|fault| fault.times > 0 && fault.matches(server, method, path))?;
        if fault.times != usize::MAX {
            fault.times -= 1;
        }
        Some(fault.effect.clone())
    }
}
