//! What all that ask write down together, and the report of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::answer::{Answerer, ProbeAnswer, ProbeKind, SocketBreak};
use super::failure::ProbeFailure;
use super::report::ProbeReport;

/// What all that ask write down together.
#[derive(Debug)]
pub(super) struct Notebook {
    begun: Instant,
    answers: Mutex<Vec<ProbeAnswer>>,
    breaks: Mutex<Vec<SocketBreak>>,
    reopened: Mutex<usize>,
}

impl Notebook {
    pub fn new() -> Self {
        Self { begun: Instant::now(), answers: Mutex::default(), breaks: Mutex::default(), reopened: Mutex::default() }
    }

    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub fn note(&self, kind: ProbeKind, asked: Duration, outcome: Result<Answerer, ProbeFailure>) {
        let answer = ProbeAnswer { kind, asked, ended: self.now(), outcome };
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }

    pub fn note_break(&self, broken: SocketBreak) {
        self.breaks.lock().unwrap_or_else(PoisonError::into_inner).push(broken);
    }

    pub fn note_reopened(&self) {
        *self.reopened.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    pub fn report(&self) -> ProbeReport {
        ProbeReport {
            answers: self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            breaks: self.breaks.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            begun: self.begun,
            reopened: *self.reopened.lock().unwrap_or_else(PoisonError::into_inner),
            ended: self.now(),
        }
    }
}
