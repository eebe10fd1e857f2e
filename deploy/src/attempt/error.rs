//! What a stage fails with: a code of the protocol, a redacted message and tail, and when to try again. Which code a
//! program's output stands for is decided in `remote::failure_phrases`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slipway_protocol::names::{Port, VariableName};
use slipway_protocol::{ErrorCode, Failure, ServiceReport, Serving, Stage};

/// A stage's failure. Its text is redacted already; its class is the code's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct StageError {
    /// The code; its class decides about retrying.
    pub code: ErrorCode,
    /// What happened and where.
    pub message: String,
    /// The last lines of what the failing command wrote.
    pub tail: Vec<String>,
    /// The earliest moment at which trying again makes sense, counted from now (`Retry-After`, rate limits).
    pub retry_after: Option<Duration>,
    /// For `missing-secret`: the variable that lacks its value.
    pub missing_secret: Option<VariableName>,
    /// The services that run although the stage failed, as seen last (compose).
    pub services: Box<[ServiceReport]>,
    /// What only some failures have. Boxed, to keep every `Result` small.
    pub detail: Box<ErrorDetail>,
}

/// What only some failures have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorDetail {
    /// What serves although the stage failed; none where that couldn't be seen.
    pub serving: Option<Serving>,
    /// For `missing-secret`: what the project says about it.
    pub secret_description: Option<String>,
    /// What GitHub is known to hold by now (secrets), also when nothing was written; as in [`crate::StageReport`].
    pub github_digests: Option<BTreeMap<String, String>>,
    /// For `port-occupied`: the ports that others hold.
    pub occupied_ports: BTreeSet<Port>,
}

impl StageError {
    /// An error without tail.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            tail: Vec::new(),
            retry_after: None,
            missing_secret: None,
            services: Box::default(),
            detail: Box::default(),
        }
    }

    /// The same error with the end of a command's output.
    #[must_use]
    pub fn with_tail(mut self, tail: Vec<String>) -> Self {
        self.tail = tail;
        self
    }

    /// As it is written in an event.
    #[must_use]
    pub fn failure(&self, stage: Option<Stage>) -> Failure {
        Failure {
            tail: self.tail.clone(),
            secret_description: self.detail.secret_description.clone(),
            ..Failure::new(self.code, stage, self.message.clone())
        }
    }
}
