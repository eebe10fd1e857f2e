//! What a stage fails with: a code of the protocol, a redacted message and tail, and when to try again; and what
//! becomes of a script's failure that no stage has words of its own for.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_protocol::names::VariableName;
use slipway_protocol::{ErrorCode, Failure, ServiceReport, Serving, Stage};

use crate::lines::ScriptOutput;

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
    /// For `missing-secret`: which one.
    pub missing_secret: Option<VariableName>,
    /// What runs in spite of it, as seen last (compose).
    pub services: Box<[ServiceReport]>,
    /// What only some failures have; apart, since every result carries the room for an error.
    pub detail: Box<ErrorDetail>,
}

/// What only some failures have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorDetail {
    /// What serves in spite of it, when somebody could look.
    pub serving: Option<Serving>,
    /// For `missing-secret`: what the project says about it.
    pub secret_description: Option<String>,
    /// What GitHub is known to hold by now (secrets), also when nothing was written; as in [`crate::StageReport`].
    pub github_digests: Option<BTreeMap<String, String>>,
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

    /// As it stands in an event.
    #[must_use]
    pub fn failure(&self, stage: Option<Stage>) -> Failure {
        Failure {
            tail: self.tail.clone(),
            secret_description: self.detail.secret_description.clone(),
            ..Failure::new(self.code, stage, self.message.clone())
        }
    }
}

/// A failure that the script didn't explain.
pub(crate) fn unexpected(said: &ScriptOutput, code: ErrorCode, message: &str) -> StageError {
    let tail = said.tail();
    let text = tail.join("\n").to_lowercase();
    let any = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let code = if any(&["no space left on device", "disk quota exceeded"]) {
        ErrorCode::DiskFull
    } else if any(&["cannot connect to the docker daemon", "error during connect: "]) {
        ErrorCode::DockerNotRunning
    } else {
        code
    };
    StageError::new(code, message).with_tail(tail)
}

/// `failed CODE MESSAGE`, as the script's `die` tells it.
pub(crate) fn understood(said: &ScriptOutput) -> Option<StageError> {
    let (code, message) = said.value("failed")?.split_once(' ')?;
    Some(StageError::new(code.parse().ok()?, message).with_tail(said.tail()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_docker_that_is_gone_are_told_whichever_script_met_them() {
        let tails = [
            ("cat: write error: No space left on device", ErrorCode::DiskFull),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", ErrorCode::DockerNotRunning),
            ("ERROR: problem running iptables", ErrorCode::FirewallFailed),
        ];
        for (line, code) in tails {
            let mut said = ScriptOutput::default();
            said.keep(line.to_owned());
            let error = unexpected(&said, ErrorCode::FirewallFailed, "ufw failed");
            assert_eq!((error.code, error.tail), (code, vec![line.to_owned()]));
        }
    }
}
