//! An attempt in the model's world: its stages, and how it ends.

use std::time::Duration;

use slipway_deploy::StageError;
use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{ErrorCode, Outcome};

use super::super::{Circuit, CircuitState, RetryDecision, after_failure, after_interruption};
use super::world::{ATTEMPTS, INTERRUPTIONS, ModelWorld};
use crate::store::State;

impl ModelWorld {
    pub(super) fn stage(&mut self, which: usize, error: Option<ErrorCode>, last: bool) {
        let attempt = self.attempts[which];
        let this = attempt.deployment;
        if self.frozen[attempt.worker] {
            return;
        }
        if !self.held(attempt) {
            self.attempts.remove(which);
            return;
        }
        let d = self.deployments[this];
        if let Some(outcome) = d.to_stop {
            self.attempts.remove(which);
            return self.end(this, outcome);
        }
        if d.interruptions > INTERRUPTIONS {
            // It was claimed only to restore the previous release.
            self.attempts.remove(which);
            return self.end(this, Outcome::Failed);
        }
        self.check_newest(this);
        let error = if self.down[d.server] { Some(ErrorCode::ServerUnreachable) } else { error };
        match error {
            None => {
                self.circuits.remove(&d.server);
                self.deployments[this].touched = true;
                if last {
                    self.attempts.remove(which);
                    self.end(this, Outcome::Succeeded);
                }
            }
            Some(code) => {
                self.attempts.remove(which);
                self.fail(this, &StageError::new(code, ""));
            }
        }
    }

    fn fail(&mut self, this: usize, error: &StageError) {
        let server = self.deployments[this].server;
        let mut open = None;
        if error.code.is_connection_failure() {
            let circuit = Circuit::failed(self.circuits.get(&server).copied(), self.now, 0.5);
            self.circuits.insert(server, circuit);
            if let CircuitState::Open(until) = circuit.state_at(self.now) {
                open = Duration::try_from(until.duration_since(self.now)).ok();
            }
        } else if !self.down[server] {
            self.circuits.remove(&server);
        }
        let d = &mut self.deployments[this];
        let next = after_failure(&ATTEMPTS, d.tries, error, open);
        if matches!(next, RetryDecision::Permanent | RetryDecision::Exhausted) {
            return self.end(this, Outcome::Failed);
        }
        if let Some(outcome) = d.to_stop {
            return self.end(this, outcome);
        }
        match next {
            RetryDecision::Wait(_) => {
                d.run_at = self.now;
                (d.tries.attempt, d.tries.waits) = (d.tries.attempt - 1, d.tries.waits + 1);
            }
            RetryDecision::Pause(_) => {
                d.run_at = self.now + RetryPolicy::RATE_LIMITED.bound(d.tries.waits + 1) / 2;
                (d.tries.attempt, d.tries.waits) = (d.tries.attempt - 1, d.tries.waits + 1);
            }
            // Drawn by chance, and so replaced by its middle.
            _ => d.run_at = self.now + ATTEMPTS.bound(d.tries.attempt) / 2,
        }
        self.wait(this);
    }

    fn wait(&mut self, this: usize) {
        let d = &mut self.deployments[this];
        d.state = d.state.step(State::Pending).expect("legal");
        self.release(this);
    }

    fn release(&mut self, this: usize) {
        let d = &self.deployments[this];
        if let Some((fence, end)) = self.leases.get_mut(&(d.project, d.server))
            && *fence == d.fence
        {
            *end = self.now;
        }
    }

    pub(super) fn interrupt(&mut self, this: usize) {
        let d = &mut self.deployments[this];
        let goes_on = after_interruption(d.interruptions, INTERRUPTIONS, d.touched);
        d.interruptions += 1;
        if !goes_on {
            let outcome = d.to_stop.unwrap_or(Outcome::Failed);
            return self.end(this, outcome);
        }
        (d.tries.attempt, d.run_at) = (d.tries.attempt - 1, self.now);
        self.wait(this);
    }

    pub(super) fn end(&mut self, this: usize, outcome: Outcome) {
        let d = &mut self.deployments[this];
        d.state = d.state.step(State::Ended(outcome)).expect("a deployment ends once");
        self.release(this);
    }
}
