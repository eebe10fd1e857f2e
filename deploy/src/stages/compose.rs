//! Compose: images pulled, containers started, health proven.

use slipway_protocol::names::ServiceName;
use slipway_protocol::{ErrorCode, ServiceReport, Stage};

use crate::lines::Said;
use crate::script::{GATE, PROJECT, Script};
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn compose(&mut self) -> Result<StageReport, StageError> {
        let env = self.known_env(Stage::Compose).await?;
        // A tag of a commit never moves; any other may.
        let fixed = env.iter().filter(|(name, _)| name.ends_with("_IMAGE")).all(|(_, image)| image.contains(":sha-"));
        let script = Script::new("compose", &[PROJECT, GATE, include_str!("../scripts/compose.sh")])
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .word("policy", &if fixed { "missing" } else { "always" })
            .number("patience", self.config().health_timeout.as_secs());
        let outcome = self.exec(Stage::Compose, &script).await?;
        let said = match &outcome {
            Ok(said) | Err(said) => said,
        };
        let services = services(said);
        if outcome.is_err() {
            let error = StageError { services: services.into(), ..explain(said) };
            let touched = said.value("phase") != Some("pull");
            return Err(if touched { self.put_back(Stage::Compose, error).await } else { error });
        }
        let mut report = StageReport::of(said.value("change") == Some("changed")).fact("services", services.len());
        if let Some(proof) = said.value("proof") {
            report = report.fact("proof", proof);
        }
        report.services = services;
        Ok(report)
    }
}

/// The services as the gate tells them.
pub(super) fn services(said: &Said) -> Vec<ServiceReport> {
    said.values("service").iter().filter_map(|line| service(line)).collect()
}

/// `service state health restarts exit-code image`.
fn service(line: &str) -> Option<ServiceReport> {
    let mut words = line.split(' ');
    let service = ServiceName::new(words.next()?).ok()?;
    let state = words.next()?.to_owned();
    let health = words.next().filter(|h| *h != "-").map(str::to_owned);
    let restarts = words.next()?.parse().ok()?;
    let image = words.nth(1)?.to_owned();
    Some(ServiceReport { service, state, health, image, restarts })
}

fn explain(said: &Said) -> StageError {
    let fail = |code, message: String| StageError::new(code, message).with_tail(said.tail());
    let mut verdict = said.value("verdict").unwrap_or_default().split(' ');
    let (kind, name) = (verdict.next().unwrap_or_default(), verdict.next().unwrap_or_default());
    let state = said.values("service").iter().find(|line| line.split(' ').next() == Some(name));
    let state = state.map(|line| line.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" ")).unwrap_or_default();
    match (said.value("phase"), kind) {
        (Some("pull"), _) => pull(said),
        (_, "crash-loop") => {
            fail(ErrorCode::CrashLoop, format!("service {name} keeps exiting (state, health, restarts, code: {state})"))
        }
        (_, "unhealthy") => fail(ErrorCode::Unhealthy, format!("the health check of service {name} doesn't pass")),
        (Some("done"), "wait") => fail(
            ErrorCode::Unhealthy,
            format!("service {name} didn't become stable in time (state, health, restarts, code: {state})"),
        ),
        _ => fail(ErrorCode::StartFailed, "docker compose up failed".to_owned()),
    }
}

/// Docker has no codes for a failed pull: its words decide.
fn pull(said: &Said) -> StageError {
    let text = said.tail().join("\n").to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    let (code, what) = if any(&["manifest unknown", "not found", "no such manifest"]) && !any(&["lookup"]) {
        (ErrorCode::ImageNotFound, "an image isn't in the registry")
    } else if any(&["unauthorized", "denied", "no basic auth credentials", "authentication required", "forbidden"]) {
        (ErrorCode::RegistryCredentialRefused, "the registry refused the credential for an image")
    } else if any(&["no space left"]) {
        (ErrorCode::DiskFull, "the server's disk is full")
    } else if any(&[
        "connection refused",
        "no such host",
        "timeout",
        "timed out",
        "tls handshake",
        "502 ",
        "503 ",
        "504 ",
        "500 internal",
        "eof",
        "connection reset",
        "network is unreachable",
        "no route to host",
        "temporary failure",
    ]) {
        (ErrorCode::RegistryUnavailable, "the registry doesn't answer")
    } else {
        (ErrorCode::PullFailed, "docker compose pull failed")
    };
    StageError::new(code, what).with_tail(said.tail())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&str], tail: &[&str]) -> Said {
        let mut said = Said::default();
        for value in values {
            assert_eq!(said.take("m", format!("m {value}").as_bytes()), None);
        }
        tail.iter().for_each(|line| said.keep((*line).to_owned()));
        said
    }

    #[test]
    fn dockers_words_about_a_pull_become_codes() {
        let words = [
            ("manifest for ghcr.io/a/b:sha-1 not found: manifest unknown", ErrorCode::ImageNotFound),
            ("Head \"https://ghcr.io/v2/a/b\": unauthorized", ErrorCode::RegistryCredentialRefused),
            ("dial tcp: lookup ghcr.io: no such host", ErrorCode::RegistryUnavailable),
            ("write /var/lib/docker/tmp: no space left on device", ErrorCode::DiskFull),
            ("something else", ErrorCode::PullFailed),
        ];
        for (line, code) in words {
            assert_eq!(explain(&said(&["phase pull"], &[line])).code, code, "{line}");
        }
    }

    #[test]
    fn the_gates_verdict_becomes_a_code_that_names_the_service() {
        let service = "service backend restarting - 4 1 ghcr.io/a/b:sha-1234567";
        let error = explain(&said(&[service, "phase done", "verdict crash-loop backend"], &["boom"]));
        assert_eq!(error.code, ErrorCode::CrashLoop);
        assert!(error.message.contains("backend"), "{error}");
        assert_eq!(error.tail, ["boom"]);
        let error = explain(&said(&["phase failed", "verdict ok"], &[]));
        assert_eq!(error.code, ErrorCode::StartFailed);
    }
}
