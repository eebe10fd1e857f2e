//! What leaves this crate, whoever wrote it: without known secrets, without what a terminal or a database stumbles over,
//! and bounded. Lines that programs print while a script runs are treated alike in `remote::ssh::output_collector`.

use std::collections::VecDeque;

use slipway_protocol::{ErrorCode, Replacement, ServiceReport, Stage};

use crate::budget::STAGE_FACTS;
use crate::remote::output::{TAIL, cut, plain_text};
use crate::secrets::redact::Redactor;
use crate::{StageError, StageReport};

/// How much of a text is read: more than is told of it, and what a secret at its end may have.
const MAX_READ: usize = 24 * 1024;
/// Docker's longest words and names of images, and more.
const MAX_WORD: usize = 512;
/// More services than any project has.
const MAX_SERVICES: usize = 200;

impl Redactor {
    /// A text as it may be told: cut off where it's too long.
    pub(crate) fn tell(&self, text: &str) -> String {
        let read = &text[..text.floor_char_boundary(MAX_READ)];
        cut(self.clean(&plain_text(read)))
    }

    /// A report as it may be kept.
    ///
    /// # Errors
    /// `output-too-large` when it says more than is kept.
    pub(crate) fn tell_report(&self, stage: Stage, report: StageReport) -> Result<StageReport, StageError> {
        let facts = self.clean_json(serde_json::Value::Object(report.facts));
        let size = serde_json::to_vec(&facts).map_or(usize::MAX, |facts| facts.len());
        let (true, serde_json::Value::Object(facts)) = (STAGE_FACTS.clone().take(size), facts) else {
            let message =
                format!("stage {stage} has found out more than is kept, {size} bytes: nothing of it is believed");
            return Err(StageError::new(ErrorCode::OutputTooLarge, message));
        };
        Ok(StageReport { facts, services: self.tell_services(report.services), ..report })
    }

    /// An error as it may be kept.
    pub(crate) fn tell_error(&self, mut error: StageError) -> StageError {
        error.message = self.tell(&error.message);
        error.detail.secret_description = error.detail.secret_description.map(|text| self.tell(&text));
        let lines: VecDeque<String> = error.tail.into();
        error.tail = lines.iter().skip(lines.len().saturating_sub(TAIL)).map(|line| self.tell(line)).collect();
        error.services = self.tell_services(error.services.into_vec()).into();
        error
    }

    fn tell_services(&self, services: Vec<ServiceReport>) -> Vec<ServiceReport> {
        let word = |word: String| {
            let mut word = self.tell(&word[..word.floor_char_boundary(8 * MAX_WORD)]);
            word.truncate(word.floor_char_boundary(MAX_WORD));
            word
        };
        let told = services.into_iter().take(MAX_SERVICES).map(|service| ServiceReport {
            state: word(service.state),
            health: service.health.map(word),
            image: word(service.image),
            replaced: service.replaced.map(|replaced| Replacement { why: replaced.why.map(word), ..replaced }),
            ..service
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use secrecy::SecretString;
    use slipway_protocol::ReplacementWay;

    use super::*;

    fn redactor() -> Redactor {
        let redactor = Redactor::default();
        redactor.learn(&SecretString::from("hunter2-hunter2".to_owned()));
        redactor
    }

    fn service(state: &str) -> ServiceReport {
        let service = "backend".parse().expect("a name");
        let replaced = Replacement { how: ReplacementWay::StopFirst, why: Some(state.to_owned()), gap_ms: None };
        let (state, image) = (state.to_owned(), state.to_owned());
        ServiceReport { service, state, health: None, image, restarts: 0, replaced: Some(replaced) }
    }

    #[test]
    fn an_error_is_bounded_whoever_has_written_it() {
        let hostile = format!("\u{1b}[2J\0 hunter2-\u{1b}[1mhunter2 \u{1b}]0;title\u{7}{}", "x".repeat(100_000));
        let mut error = StageError::new(ErrorCode::PullFailed, hostile.clone()).with_tail(vec![hostile.clone(); 100]);
        error.services = vec![service(&hostile); 300].into();
        let error = redactor().tell_error(error);
        let all = serde_json::to_string(&error.failure(None)).expect("JSON");
        assert!(all.len() < 200_000, "{}", all.len());
        assert!(
            !all.contains("u001b") && !all.contains("u0000") && !all.contains("hunter2-hunter2"),
            "{}",
            &all[..300]
        );
        assert!(error.message.starts_with(" [redacted] "), "{}", &error.message[..60]);
        assert_eq!((error.tail.len(), error.services.len()), (TAIL, MAX_SERVICES));
        assert!(error.services.iter().all(|service| service.state.len() <= MAX_WORD));
        let why = error.services.iter().filter_map(|service| service.replaced.as_ref()?.why.as_ref());
        assert!(why.clone().count() == MAX_SERVICES && why.clone().all(|why| why.len() <= MAX_WORD));
        assert!(why.clone().all(|why| !why.contains("hunter2-hunter2") && !why.contains('\u{1b}')));
    }

    #[test]
    fn facts_that_no_database_takes_are_mended_and_giant_ones_are_refused() {
        let report = |value: String| {
            let mut report = StageReport::of(true);
            report.facts.insert("os\0".to_owned(), value.into());
            redactor().tell_report(Stage::Preflight, report)
        };
        let told = report("Debian\0 \u{1b}[31m12\nhunter2-hunter2".to_owned()).expect("a report");
        assert_eq!(told.facts["os"], "Debian 12\n[redacted]");
        let error = report("x".repeat(1_000_000)).expect_err("too much");
        assert_eq!(error.code, ErrorCode::OutputTooLarge);
    }
}
